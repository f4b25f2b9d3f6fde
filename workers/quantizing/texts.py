"""The texts of a quantization as token ids: those to calibrate with, and those that judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from corpus.text_sides import text_sides
from jobspecs.kinds.quantize import ROWS_MIN, Quantize
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput
from workers.local_models.tokens import Int64s
from workers.run.context import RunContext, RunFailed
from workers.run.data_parts import data_files

#: Headings and the like say little of a model, and of a text's first token nothing is predicted.
TOKENS_MIN = 16
#: Texts that judge, at least: intervals over fewer mean nothing.
_JUDGING_MIN = 8


@dataclass(frozen=True)
class Texts:
    """Each text (T,), cut to its section's length."""

    calibration: tuple[Int64s, ...]
    held_out: tuple[Int64s, ...]
    #: Of the calibration, as they were written.
    written: tuple[str, ...]


def load_texts(
    context: RunContext, spec: Quantize, tokenizer: PreTrainedTokenizerBase, between: Callable[[], None]
) -> Texts:
    """The first texts of each side that have TOKENS_MIN tokens. Raises RunFailed(invalid_dataset) for too few."""
    file, held_out, _ = data_files(context)
    try:
        sides = text_sides(file, held_out, spec)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    wanted = spec.calibration.samples if spec.facts.calibrated else 0
    calibration = _taken(sides.calibration, tokenizer, wanted, spec.calibration.length, between)
    judging = _taken(sides.held_out, tokenizer, spec.validation.rows, spec.validation.length, between)
    _enough("validation", len(judging), _JUDGING_MIN)
    if spec.facts.calibrated:
        _enough("calibration", len(calibration), min(wanted, ROWS_MIN - _JUDGING_MIN))
    return Texts(
        tuple(ids for _, ids in calibration), tuple(ids for _, ids in judging), tuple(text for text, _ in calibration)
    )


def _taken(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, wanted: int, length: int, between: Callable[[], None]
) -> list[tuple[str, Int64s]]:
    found: list[tuple[str, Int64s]] = []
    for text in texts:
        if len(found) == wanted:
            break
        between()
        ids = np.array(tokenizer(text, verbose=False)["input_ids"][:length], dtype=np.int64)
        if len(ids) >= TOKENS_MIN:
            found.append((text, ids))
    return found


def _enough(section: str, found: int, needed: int) -> None:
    if found < needed:
        raise RunFailed(
            Reason.invalid_dataset,
            f"{section}: {found} texts have {TOKENS_MIN} tokens or more; {needed} are needed. Push more texts.",
        )

"""What is kept of the rows that judged a language model: from it alone the verdict can be computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from corpus.checks.findings import text_hashes
from corpus.conversations.examples import Example
from corpus.conversations.identity import content_and_prompt
from jobspecs.kinds.finetune_llm import FinetuneLlm, Objective
from jobspecs.manifest import DatasetOrigin
from workers.judging.held_out_file import Column, Judged
from workers.local_models.tokens import Int64s
from workers.training.llm.preparing import PAIRS
from workers.training.llm.rows import Rows
from workers.training.llm.scoring import Float64s

_TURNS = "the turns, each `role: ` with its reasoning and content, null bytes between"
#: What the text of a row is, by objective: `content_and_prompt`.
_TEXT: Mapping[Objective, str] = MappingProxyType(
    {
        "sft": _TURNS,
        "pretrain": "the text",
        "dpo": f"{_TURNS}: prompt and chosen answer, then prompt and rejected answer",
        "orpo": f"{_TURNS}: prompt and chosen answer, then prompt and rejected answer",
        "kto": f"{_TURNS}; behind them `True` where the answer is wanted, else `False`",
    }
)


def kept_of(
    rows: Rows,
    examples: Sequence[Example],
    spec: FinetuneLlm,
    log_probs: tuple[Float64s, Float64s],
    rewards: Float64s | None,
    dataset: DatasetOrigin,
) -> Judged:
    """`log_probs` (N,) of the N sequences of `rows`, before and after; `rewards` as `judged` gives them.

    `examples`: those that `rows` were rendered from.
    """
    sequences = rows.sequences.supervised
    columns = []
    if spec.objective in PAIRS:
        first = slice(0, len(rows), 2)
        columns += _answers("rejected_", sequences[1::2], *(found[1 : len(rows) : 2] for found in log_probs))
    else:
        first = slice(0, len(rows))
    places = rows.examples[first]
    columns = [*_answers("", sequences[first], *(found[first] for found in log_probs)), *columns]
    if spec.objective == "kto":
        columns.append(Column("desirable", rows.desirable, "whether the answer is wanted"))
    if spec.objective == "pretrain":
        columns.append(Column("piece", _pieces(places), "place of the piece within its text, from 0"))
    if rewards is not None:
        columns.append(Column("reward", rewards, "how far the result moved towards what is preferred, in nats"))
    return Judged(
        "finetune-llm",
        spec.judging_part,
        dataset,
        np.array([examples[place].row for place in places], dtype=np.int64),
        text_hashes(content_and_prompt(examples[place])[0] for place in places),
        _TEXT[spec.objective],
        columns,
        {"metric": "loss", "objective": spec.objective},
        groups=places,
    )


def _answers(prefix: str, tokens: Int64s, before: Float64s, after: Float64s) -> list[Column]:
    which = "the rejected answer" if prefix else "the answer"
    return [
        Column(f"{prefix}tokens", tokens, f"of {which} that are learnt"),
        Column(f"{prefix}base_log_prob", before, f"of {which} by the base model, in nats: the sum over its tokens"),
        Column(f"{prefix}log_prob", after, f"of {which} by the fine-tuned model, in nats"),
    ]


def _pieces(places: Int64s) -> Int64s:
    """(N,) how many earlier ones are of the same example; those of one stand together."""
    firsts, texts = np.unique(places, return_index=True, return_inverse=True)[1:]
    pieces: Int64s = np.arange(len(places)) - firsts[texts]
    return pieces

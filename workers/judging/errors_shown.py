"""What a classifier gets wrong, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from workers.local_models.tokens import Int64s

#: Beyond so many classes a table of them is not read.
CLASSES_MAX = 20
MISTAKES_MAX, TEXT_CHARS_MAX = 10, 200


@dataclass(frozen=True)
class Errors:
    """`confusion`: held-out rows of each true class (row) by predicted class (column); None for very many classes.

    `mistakes`: the wrong rows of which the model was surest, the surest first, texts shortened.
    """

    confusion: dict[str, Any] | None
    mistakes: list[dict[str, Any]]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        truth: Int64s,
        probabilities: npt.NDArray[np.float32],
        classes: Sequence[str],
    ) -> Errors:
        """Of N held-out texts with their classes `truth` (N,) and the model's `probabilities` (N, C)."""
        predicted = probabilities.argmax(axis=1)
        table = None
        if len(classes) <= CLASSES_MAX:
            counts = confusion_matrix(truth, predicted, labels=np.arange(len(classes)))
            table = {"classes": list(classes), "rows": counts.tolist()}
        return cls(table, _mistakes(texts, truth, probabilities, classes))


def _mistakes(
    texts: Sequence[str], truth: Int64s, probabilities: npt.NDArray[np.float32], classes: Sequence[str]
) -> list[dict[str, Any]]:
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    surest = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES_MAX]
    return [
        {
            "text": _shortened(texts[row]),
            "true": classes[truth[row]],
            "predicted": classes[predicted[row]],
            "probability": round(float(sure[row]), 4),
        }
        for row in surest.tolist()
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"

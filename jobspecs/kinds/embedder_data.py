"""The shapes of data that an embedder learns from, and the losses that fit each of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

#: `triplets`: an anchor, a text that belongs to it, and perhaps texts that don't.
#: `scored-pairs`: two sentences and how alike they are. `labelled-texts`: a text and its class.
DataShape = Literal["triplets", "scored-pairs", "labelled-texts"]

#: Sentence-transformers' names, in its own words; `_SHORT` holds the abbreviations that people use.
_SHORT = {
    "mnrl": "multiple-negatives-ranking",
    "cached-mnrl": "cached-multiple-negatives-ranking",
}


def _spelled_out(value: Any) -> Any:
    return _SHORT.get(value, value) if isinstance(value, str) else value


LossName = Literal[
    "cosent",
    "angle",
    "contrastive",
    "multiple-negatives-ranking",
    "cached-multiple-negatives-ranking",
    "triplet",
    "batch-hard-triplet",
]
#: What a spec may name: a loss, its abbreviation, or `auto`, which takes the first of its data's shape.
LossChoice = Annotated[Literal["auto"] | LossName, BeforeValidator(_spelled_out)]

#: The losses of each shape; the first is the default.
LOSSES: Mapping[DataShape, tuple[LossName, ...]] = MappingProxyType(
    {
        "triplets": ("multiple-negatives-ranking", "cached-multiple-negatives-ranking", "triplet"),
        "scored-pairs": ("cosent", "angle", "contrastive"),
        "labelled-texts": ("batch-hard-triplet",),
    }
)

#: Losses for which every other row of a batch is a negative: two rows with a text in common must not meet there.
IN_BATCH: frozenset[LossName] = frozenset({"multiple-negatives-ranking", "cached-multiple-negatives-ranking"})

#: Columns of each shape by the names of the spec's fields. `negative` may be absent.
COLUMNS: Mapping[DataShape, tuple[str, ...]] = MappingProxyType(
    {
        "triplets": ("anchor", "positive", "negative"),
        "scored-pairs": ("sentence1", "sentence2", "score"),
        "labelled-texts": ("text", "label"),
    }
)

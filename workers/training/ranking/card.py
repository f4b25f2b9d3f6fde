"""README.md of a trained cross-encoder."""

from __future__ import annotations

from corpus.markdown import Section, Table, card
from jobspecs.kinds.train_reranker import TrainReranker
from workers.judging.ranking_verdict import RankingVerdict, systems_table
from workers.training.model_card import how_held_out, settings_table, trained_on
from workers.training.ranking.data import PairSplit

_USE = """```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("path/to/this/folder")
model.rank("a query", ["a passage", "another passage"])  # scores from 0 to 1, the best first
```"""


def ranking_card(spec: TrainReranker, split: PairSplit, verdict: RankingVerdict, ended: str) -> str:
    """Markdown; `ended`: how training ended. Depends on inputs and results only, not on when or where it ran."""
    columns = ", ".join(f"`{column}`" for column in spec.columns.values())
    held_out = len(split.validation.rows_by_query())
    difference, low, high = verdict.difference
    mined = " Negatives were mined with an embedder." if spec.mines_negatives else ""
    judged = "" if spec.judge is None else f", by the labels in `{spec.judge.label}`"
    measured = (
        f"Measured on {len(split.validation)} pairs of {held_out} held-out queries "
        f"({how_held_out(spec.judging_rows)}){judged}, "
        f"{trained_on(spec, len(split.train), len(split.fit), split.choosing_too)} {split.overlap.sentence} "
        f"Difference to the best other system: {difference:+.3f} ({low:+.3f} to {high:+.3f}). Intervals are of 95 %, "
        "from a bootstrap."
    )
    return card(
        spec.name,
        f"A cross-encoder that scores pairs from 0 to 1, fine-tuned from `{spec.model}` on the columns {columns} of "
        f"`{spec.dataset}` with the loss `{spec.loss_name}`.{mined}",
        [
            Section("Verdict", (verdict.sentence, Table(*systems_table(verdict)), measured)),
            Section("Training", (settings_table(spec.training), ended)),
            Section("Use", (_USE,)),
        ],
    )

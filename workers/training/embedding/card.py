"""README.md of an embedder: what it is, how good, compared with what, and how to ask it."""

from __future__ import annotations

from collections.abc import Mapping

from corpus.markdown import Section, Table, card
from jobspecs.kinds.train_embedder import TrainEmbedder
from workers.judging.ranking_verdict import RankingVerdict, systems_table
from workers.local_models.embedding_model import EmbeddingModel
from workers.training.embedding.data import EmbeddingSplit
from workers.training.model_card import (
    how_held_out,
    renamed_labels,
    settings_table,
    trained_on,
)


def embedder_card(
    spec: TrainEmbedder,
    model: EmbeddingModel,
    split: EmbeddingSplit,
    verdict: RankingVerdict,
    by_dimensions: Mapping[int, float],
    ended: str,
) -> str:
    """Markdown. `by_dimensions`: the deciding measure of the first so many dimensions; `ended`: how training ended."""
    columns = ", ".join(f"`{column}`" for _, column in spec.text_columns)
    value, low, high = verdict.difference
    judged: list[str | Table] = [
        verdict.sentence,
        Table(*systems_table(verdict)),
        f"Measured on {len(split.validation)} held-out rows ({how_held_out(spec.judging_rows)}), "
        f"{trained_on(spec, len(split.train), len(split.fit), split.choosing_too)} {split.overlap.sentence} "
        f"Difference to the best other system: {value:+.3f} ({low:+.3f} to {high:+.3f}).",
    ]
    judged += [text for text in (split.twins.sentence, *renamed_labels(split.train.renamed)) if text]
    if by_dimensions:
        rows = [(str(dimensions), f"{found:.3f}") for dimensions, found in by_dimensions.items()]
        judged.append(Table(("dimensions", verdict.metric), rows))
    return card(
        spec.name,
        f"{model.dimensions}-dimensional embeddings, trained from `{spec.model}` on the columns {columns} of "
        f"`{spec.dataset}` with the loss {spec.loss_name}.",
        [
            Section("Verdict", judged),
            Section("Training", (settings_table(spec.training), ended)),
            Section("Use", (_usage(model),)),
        ],
    )


def _usage(model: EmbeddingModel) -> str:
    prompts = "".join(f"\n`{name}` is `{prompt}` before the text." for name, prompt in sorted(model.prompts.items()))
    name = next(iter(sorted(model.prompts)), None)
    argument = f', prompt_name="{name}"' if name else ""
    return (
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("path/to/this/folder")\n'
        f'embeddings = model.encode(["a text", "another"]{argument})\n```' + (f"\n{prompts}" if prompts else "")
    )

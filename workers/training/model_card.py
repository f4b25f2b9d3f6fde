"""README.md of a trained classifier: what it is, how good, compared with what."""

from __future__ import annotations

from jobspecs.kinds.train_classifier import TrainClassifier
from workers.training.texts import Split
from workers.training.verdict import Score, Verdict


def model_card(spec: TrainClassifier, split: Split, verdict: Verdict) -> str:
    """Markdown. Depends on inputs and results only, not on when or where it was trained."""
    rows = [_row(system) for system in (verdict.model, *verdict.baselines)]
    classes = [
        f"| {_cell(name)} | {entry.precision:.3f} | {entry.recall:.3f} | {entry.f1:.3f} | {entry.rows} |"
        for name, entry in verdict.model.per_class.items()
    ]
    # How often checkpoints were written is no property of the model.
    settings = spec.training.model_dump(exclude={"checkpoint_every_steps"}, exclude_none=True)
    training = [f"| {name} | {value} |" for name, value in settings.items()]
    both = split.texts_in_both
    return "\n".join(
        [
            f"# {spec.name}",
            "",
            f"A text classifier for {len(split.train.classes)} classes, fine-tuned from `{spec.model}` on the columns "
            f"`{spec.text}` and `{spec.label}` of `{spec.dataset}`.",
            "",
            "## Verdict",
            "",
            verdict.sentence,
            "",
            "| system | accuracy | 95 % interval | macro F1 |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Measured on {len(split.validation)} held-out rows (seed {spec.validation.seed}"
            f"{', stratified' if spec.validation.stratify else ''}), trained on {len(split.train)}. "
            f"{both} of the held-out texts also occur in the training part. Difference to the best baseline: "
            f"McNemar p = {verdict.p_value:.3g}.",
            "",
            "## Per class",
            "",
            "| class | precision | recall | F1 | rows |",
            "|---|---|---|---|---|",
            *classes,
            "",
            "## Training",
            "",
            "| setting | value |",
            "|---|---|",
            *training,
            "",
            "## Use",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            'classify = pipeline("text-classification", model="path/to/this/folder")',
            "```",
            "",
        ]
    )


def _row(system: Score) -> str:
    interval = f"{system.accuracy_low:.1%} to {system.accuracy_high:.1%}"
    return f"| {system.system} | {system.accuracy:.1%} | {interval} | {system.macro_f1:.3f} |"


def _cell(text: str) -> str:
    """A class name can hold anything; a table cell can't."""
    return " ".join(text.replace("|", "\\|").split())

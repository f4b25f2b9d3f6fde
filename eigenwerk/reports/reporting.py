"""What came out of a job, in lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eigenwerk.reports.evaluations import flipped_lines
from eigenwerk.resources import JobResult

#: Rendered examples and samples that are shown, and of each text of theirs so many characters and lines.
_SHOWN_MAX = 3
_TEXT_CHARS, _TEXT_LINES = 600, 12
#: Classes that fit a terminal, mistakes that are shown, and characters of a class's name and of a mistake's text.
_CLASSES_MAX, _MISTAKES_MAX, _NAME_CHARS, _MISTAKE_CHARS = 10, 5, 14, 90
#: A sample's texts, as a report and as people name them.
_SAMPLE_TEXTS = {"prompt": "prompt", "reference": "data set", "base": "base", "result": "result"}


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned text, one line per row. Without headers when all of them are empty."""
    table = [list(headers), *(list(row) for row in rows)] if any(headers) else [list(row) for row in rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(headers))] if table else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def result_lines(result: JobResult) -> list[str]:
    """The registered model, how good it is beside the baselines on the same held-out rows, and what shows it."""
    return [
        *_judged_lines(result),
        *_error_lines(result.report),
        *flipped_lines(result.report),
        *_example_lines(result.report),
        *_sample_lines(result.report),
    ]


def _judged_lines(result: JobResult) -> list[str]:
    lines = [f"model     {result.model}" if result.model else f"dataset   {result.dataset}"]
    verdict = result.report.get("verdict")
    if not isinstance(verdict, Mapping):
        return lines + [f"{name} = {value:.4g}" for name, value in sorted(result.metrics.items())]
    if isinstance(rewards := verdict.get("rewards"), Mapping):
        lines += ["", *columns(["what decides", "value", "95 % interval"], reward_rows(rewards))]
    if "systems" in verdict:
        lines += ["", *columns(["system", str(verdict["metric"]), "95 % interval"], system_rows(verdict))]
    else:
        lines += ["", *score_lines(verdict)]
    if sentence := verdict.get("sentence"):
        lines += ["", str(sentence)]
    forgetting = result.report.get("forgetting")
    if isinstance(forgetting, Mapping):
        lines += ["", str(forgetting["sentence"])]
    training = result.report.get("training")
    if isinstance(training, Mapping) and (ended := training.get("sentence")):
        lines += ["", str(ended)]
    return lines


def _example_lines(report: Mapping[str, Any]) -> list[str]:
    """The first rows of a language model's training as it saw them."""
    lines = []
    for example in _mappings(report.get("examples"))[:_SHOWN_MAX]:
        for name, text in example.items():
            if name != "row":
                lines += [f"row {example.get('row')}, {name}:", *_indented(str(text))]
    return ["", "Trained on what stands between « and »:", "", *lines] if lines else []


def _sample_lines(report: Mapping[str, Any]) -> list[str]:
    """The answers of base and result to held-out prompts, one below the other."""
    samples = _mappings(report.get("samples"))
    lines = []
    for number, sample in enumerate(samples[:_SHOWN_MAX], start=1):
        lines += ["", f"sample {number}"]
        for key, name in _SAMPLE_TEXTS.items():
            text = str(sample.get(key, ""))
            # Plain texts have no answer of the data set's; a model that says nothing is worth seeing.
            if text or key in ("base", "result"):
                lines += [f"  {name}:", *_indented(text or "(nothing)")]
    more = len(samples) - _SHOWN_MAX
    return [*lines, "", f"{more} more samples: eigenwerk show ID --json"] if more > 0 else lines


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _indented(text: str) -> list[str]:
    """The beginning of a text, below its title."""
    kept = "\n".join(text[:_TEXT_CHARS].rstrip().split("\n")[:_TEXT_LINES])
    left_out = len(text.rstrip()) - len(kept)
    note = [f"    … ({left_out:,} more characters)"] if left_out > 0 else []
    return [*(f"    {line}" for line in kept.split("\n")), *note]


def score_lines(verdict: Mapping[str, Any]) -> list[str]:
    """A classifier's systems, the model first: the metric that decides, and accuracy or macro F1 beside it."""
    scores = (verdict["model"], *verdict["baselines"])
    metric = verdict.get("metric", "accuracy")
    if metric == "accuracy":
        rows = [
            [
                str(score["system"]),
                f"{score['accuracy']:.1%}",
                f"{score['accuracy_low']:.1%} to {score['accuracy_high']:.1%}",
                f"{score['macro_f1']:.3f}",
            ]
            for score in scores
        ]
        return columns(["system", "accuracy", "95 % interval", "macro F1"], rows)
    rows = [
        [
            str(score["system"]),
            f"{score['value']:.3f}",
            f"{score['low']:.3f} to {score['high']:.3f}",
            f"{score['accuracy']:.1%}",
        ]
        for score in scores
    ]
    return columns(["system", str(metric), "95 % interval", "accuracy"], rows)


def _error_lines(report: Mapping[str, Any]) -> list[str]:
    """Which classes a classifier takes for which, and rows that it was sure and wrong of."""
    lines = []
    confusion = report.get("confusion")
    if isinstance(confusion, Mapping) and len(confusion["classes"]) <= _CLASSES_MAX:
        names = [_shortened(str(name), _NAME_CHARS) for name in confusion["classes"]]
        rows = [[name, *map(str, counts)] for name, counts in zip(names, confusion["rows"], strict=True)]
        lines += ["", "Held-out rows of each class (line) by the class that was predicted (column):", ""]
        lines += columns(["", *names], rows)
    if mistakes := _mappings(report.get("mistakes"))[:_MISTAKES_MAX]:
        lines += ["", "Wrong, and most sure of it:", ""]
        lines += [
            f"{one['probability']:.2f}  {one['predicted']} instead of {one['true']}: "
            + _shortened(" ".join(str(one["text"]).split()), _MISTAKE_CHARS)
            for one in mistakes
        ]
    return lines


def _shortened(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"


def reward_rows(rewards: Mapping[str, Any]) -> list[list[str]]:
    """What a verdict over preferences is about: how far the result moved towards what is preferred, and how often."""
    named = {"margin": ("reward margin", "{:+.3f}"), "accuracy": ("kept better than by the base", "{:.1%}")}
    rows = []
    for key, (name, form) in named.items():
        value, low, high = (form.format(rewards[key][part]) for part in ("value", "low", "high"))
        rows.append([name, value, f"{low} to {high}"])
    return rows


def system_rows(verdict: Mapping[str, Any]) -> list[list[str]]:
    """One row per system of a verdict over a single metric; without an interval where none is known."""

    def figure(value: float) -> str:
        return f"{value:.4f}"

    return [
        [
            str(system["system"]),
            figure(system["value"]),
            f"{figure(system['low'])} to {figure(system['high'])}" if system.get("low") is not None else "",
        ]
        for system in verdict["systems"]
    ]


def size(count: int) -> str:
    """`532 B`, `1.4 kB`, `88.2 MB`: powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"

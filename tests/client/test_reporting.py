"""What a language model's job shows people beside its figures."""

from __future__ import annotations

from typing import Any

from eigenwerk.reports.reporting import result_lines
from eigenwerk.resources import JobResult


def lines_of(**report: Any) -> list[str]:
    result = JobResult(model="ada/tuned@1", owner="ada", name="tuned", version=1, report=report)
    return result_lines(result)


def test_rendered_examples_are_shown_with_what_is_trained_between_marks() -> None:
    example = {"row": 4, "conversation": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n"}
    lines = lines_of(examples=[example] * 5)
    assert lines.count("row 4, conversation:") == 3
    begin = lines.index("row 4, conversation:")
    assert lines[begin + 1 : begin + 5] == [
        "    <|im_start|>user",
        "    Hi<|im_end|>",
        "    <|im_start|>assistant",
        "    «Hello<|im_end|>»",
    ]
    assert not any("\n" in line for line in lines)


def test_samples_stand_side_by_side_and_the_rest_is_counted() -> None:
    samples = [{"prompt": f"Why {n}?", "reference": "So.", "base": "", "result": "Because."} for n in range(5)]
    lines = lines_of(samples=samples)
    begin = lines.index("sample 2")
    assert lines[begin + 1 : begin + 9] == [
        "  prompt:",
        "    Why 1?",
        "  data set:",
        "    So.",
        "  base:",
        "    (nothing)",
        "  result:",
        "    Because.",
    ]
    assert "sample 4" not in lines
    assert lines[-1] == "2 more samples: eigenwerk show ID --json"


def test_long_texts_are_cut_with_what_is_missing() -> None:
    lines = lines_of(examples=[{"row": 1, "text": "x" * 5000}, {"row": 2, "text": "a\n" * 40}])
    assert "    … (4,400 more characters)" in lines
    assert lines.count("    a") == 12
    assert max(map(len, lines)) < 700


def test_a_report_of_another_shape_shows_nothing_more() -> None:
    assert lines_of(examples=7, samples=["one"]) == ["model     ada/tuned@1"]


def test_a_classifiers_report_shows_the_deciding_metric_its_confusion_and_its_surest_mistakes() -> None:
    score = {
        "accuracy": 0.664,
        "accuracy_low": 0.6,
        "accuracy_high": 0.7,
        "macro_f1": 0.2,
        "value": 0.2,
        "low": 0.18,
        "high": 0.22,
    }
    verdict = {
        "metric": "macro_f1",
        "model": {"system": "fine-tuned", **score},
        "baselines": [],
        "sentence": "It is so.",
    }
    mistake = {"text": "A\nlong " + "story " * 50, "true": "good", "predicted": "bad", "probability": 0.987}
    lines = lines_of(
        verdict=verdict, confusion={"classes": ["bad", "good"], "rows": [[10, 2], [3, 40]]}, mistakes=[mistake] * 9
    )
    assert lines[2:4] == [
        "system      macro_f1  95 % interval   accuracy",
        "fine-tuned  0.200     0.180 to 0.220  66.4%",
    ]
    begin = lines.index("Held-out rows of each class (line) by the class that was predicted (column):")
    assert lines[begin + 2 : begin + 5] == ["      bad  good", "bad   10   2", "good  3    40"]
    shown = [line for line in lines if line.startswith("0.99  bad instead of good: A long story")]
    assert len(shown) == 5 and all(line.endswith("…") for line in shown)
    many = [str(number) for number in range(11)]
    assert not any("predicted (column)" in line for line in lines_of(confusion={"classes": many, "rows": []}))


def test_a_verdict_over_preferences_shows_what_it_is_about_before_the_losses() -> None:
    figure = {"value": 0.682, "low": 0.526, "high": 0.84}
    systems = [{"system": name, "value": 1.5, "low": 1.4, "high": 1.6} for name in ("fine-tuned", "base model")]
    lines = lines_of(verdict={"metric": "loss", "systems": systems, "rewards": {"margin": figure, "accuracy": figure}})
    (margin,) = [line for line in lines if line.startswith("reward margin")]
    assert margin.split()[2:] == ["+0.682", "+0.526", "to", "+0.840"]
    (kept,) = [line for line in lines if line.startswith("kept better")]
    assert "68.2%" in kept and lines.index(kept) < next(n for n, line in enumerate(lines) if "fine-tuned" in line)

"""What a language model's job shows people beside its figures."""

from __future__ import annotations

from typing import Any

from eigenwerk.reporting import result_lines
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


def test_a_verdict_over_preferences_shows_what_it_is_about_before_the_losses() -> None:
    figure = {"value": 0.682, "low": 0.526, "high": 0.84}
    systems = [{"system": name, "value": 1.5, "low": 1.4, "high": 1.6} for name in ("fine-tuned", "base model")]
    lines = lines_of(verdict={"metric": "loss", "systems": systems, "rewards": {"margin": figure, "accuracy": figure}})
    (margin,) = [line for line in lines if line.startswith("reward margin")]
    assert margin.split()[2:] == ["+0.682", "+0.526", "to", "+0.840"]
    (kept,) = [line for line in lines if line.startswith("kept better")]
    assert "68.2%" in kept and lines.index(kept) < next(n for n, line in enumerate(lines) if "fine-tuned" in line)

"""One pass over a whole data set: what it finds, and that it deals the rows as the runner does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corpus.checks.findings import Findings, text_hash
from corpus.checks.inspection import check_data
from corpus.checks.judging import warnings_of
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from jobspecs.data_report import REFUSED_ROWS_SHOWN, DataReport
from jobspecs.dialect import named_columns
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.score_pairs import ScorePairs
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker
from storage.tabular import detect_format
from tests.models import build_tiny_tokenizer
from workers.run.context import RunFailed
from workers.training.classification.data import load_texts, sample_and_split
from workers.training.llm.rows import load_examples

CLASSIFIER: dict[str, Any] = {
    "kind": "train-classifier",
    "model": "m",
    "dataset": "d",
    "text": "text",
    "label": "label",
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The tiny tokenizer: one token per known word, and [CLS] and [SEP] around a text."""
    folder = tmp_path_factory.mktemp("reader")
    build_tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "max_position_embeddings": 64}))
    return Reader.load(folder)


def check(spec: SpecBase, path: Path, reader: Reader, header: Sequence[str] | None = None, **rest: Any) -> DataReport:
    report = check_data(
        spec, CheckedFile(path, detect_format(path.name, named_columns(header)), path.name), reader, **rest
    )
    assert report is not None
    return report


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def classifier(**changes: Any) -> TrainClassifier:
    return TrainClassifier.model_validate({"name": "n", **CLASSIFIER, **changes})


def labelled(count: int) -> list[dict[str, Any]]:
    return [{"text": f"the town {number}", "label": "good" if number % 2 else "bad"} for number in range(count)]


def test_tokens_are_counted_by_the_models_tokenizer_and_cut_ones_are_told(tmp_path: Path, reader: Reader) -> None:
    rows = [{"text": " ".join(["the"] * (5 if n % 4 else 20)), "label": "ab"[n % 2]} for n in range(80)]
    report = check(classifier(training={"max_length": 16}), write(tmp_path / "rows.jsonl", rows), reader)
    tokens = report.tokens
    assert tokens is not None
    assert (tokens.counted_by, tokens.p50, tokens.longest, tokens.truncated) == ("tokenizer", 7, 22, 20)
    assert tokens.mean == pytest.approx((60 * 7 + 20 * 22) / 80, abs=0.01)
    assert tokens.read_mean == pytest.approx((60 * 7 + 20 * 16) / 80, abs=0.01)
    assert sum(bin.sequences for bin in tokens.bins) == 80
    assert [warning.field for warning in report.warnings if "will be cut" in warning.message] == ["training.max_length"]


def test_without_a_tokenizer_tokens_are_estimated_and_marked_so(tmp_path: Path) -> None:
    report = check(classifier(), write(tmp_path / "rows.jsonl", labelled(60)), Reader.load(tmp_path))
    assert report.tokens is not None
    assert report.tokens.counted_by == "characters"
    assert report.tokens.longest == 3 + 2


def test_a_model_reads_no_more_than_its_positions_reach(tmp_path: Path, reader: Reader) -> None:
    rows = [{"text": " ".join(["the"] * 100), "label": "ab"[n % 2]} for n in range(60)]
    report = check(classifier(training={"max_length": 512}), write(tmp_path / "rows.jsonl", rows), reader)
    assert report.tokens is not None
    assert (report.tokens.max_length, report.tokens.truncated) == (62, 60)
    assert any("reads no more" in str(warning) for warning in report.warnings)


@pytest.mark.parametrize(
    ("max_length", "words", "remedy"),
    [
        (16, 30, "Raise max_length to 32, or shorten or split long texts."),
        (
            16,
            100,
            "Shorten or split long texts, or choose a base model that reads 102 tokens: the base model reads no more "
            "than 62 tokens. max_length: 62 keeps more of them, but not all.",
        ),
        (62, 100, "Shorten or split long texts, or choose a base model that reads 102 tokens: the base model reads"),
        (512, 100, "Shorten or split long texts, or choose a base model that reads 102 tokens: the base model reads"),
    ],
)
def test_no_advice_names_a_length_that_the_base_model_does_not_read(
    max_length: int, words: int, remedy: str, tmp_path: Path, reader: Reader
) -> None:
    rows = [{"text": " ".join(["the"] * words), "label": "ab"[n % 2]} for n in range(60)]
    report = check(classifier(training={"max_length": max_length}), write(tmp_path / "rows.jsonl", rows), reader)
    (warning,) = (warning for warning in report.warnings if "will be cut" in warning.message)
    assert warning.remedy is not None
    assert warning.remedy.startswith(remedy)


def test_no_advice_names_a_length_that_the_spec_does_not_take(tmp_path: Path) -> None:
    rows = [{"text": "x" * 40_000, "label": "ab"[n % 2]} for n in range(60)]
    report = check(classifier(), write(tmp_path / "rows.jsonl", rows), Reader.load(tmp_path))
    (warning,) = (warning for warning in report.warnings if "will be cut" in warning.message)
    assert warning.remedy is not None
    assert warning.remedy.startswith("Shorten or split long texts: max_length takes no more than 8,192 tokens.")
    TrainClassifier.model_validate({"name": "n", **CLASSIFIER, "training": {"max_length": 8192}})


def test_advice_is_not_what_the_spec_does_already(tmp_path: Path, reader: Reader) -> None:
    rows = [{**row, "label": "rare" if n < 4 else "usual"} for n, row in enumerate(labelled(400))]
    path = write(tmp_path / "rows.jsonl", rows)
    balanced = check(classifier(training={"class_weights": "balanced"}), path, reader)
    assert any("very uneven" in warning.message for warning in balanced.warnings)
    assert not any("balanced" in str(warning) for warning in balanced.warnings)
    sampled = check(classifier(rows=40), path, reader)
    assert any("Raise rows" in str(warning) for warning in sampled.warnings)
    assert not any("Push more rows" in str(warning) for warning in sampled.warnings)


def test_the_check_deals_the_rows_exactly_as_the_runner_does(tmp_path: Path, reader: Reader) -> None:
    rows = [*labelled(150), *({"text": f"the town {n}", "label": "odd"} for n in range(20))]
    path, spec = write(tmp_path / "rows.jsonl", rows), classifier(rows=90, validation={"fraction": 0.3, "seed": 5})
    split = sample_and_split(load_texts(parts_of(CheckedFile.of(path)), "text", "label"), spec)
    held = check(spec, path, reader).held_out
    assert held is not None
    assert (held.train, held.validation) == (len(split.train), len(split.validation))
    assert held.leaked == split.texts_in_both == 0


def test_case_and_spaces_do_not_hide_a_duplicate_or_a_leak(tmp_path: Path, reader: Reader) -> None:
    rows = [
        {"text": f"the town {n // 2}" if n % 2 else f" The  TOWN {n // 2}", "label": "ab"[n // 2 % 2]}
        for n in range(80)
    ]
    report = check(classifier(), write(tmp_path / "rows.jsonl", rows), reader)
    assert report.duplicates == 40
    assert report.held_out is not None and report.held_out.leaked == 0
    assert any("repeat an earlier one" in warning.message for warning in report.warnings)
    pairs = TrainEmbedder.model_validate(
        {"kind": "train-embedder", "name": "n", "model": "m", "dataset": "d", "text": "text", "label": "label"}
    )
    report = check(pairs, tmp_path / "rows.jsonl", reader)
    assert report.held_out is not None and report.held_out.leaked > 0
    assert any("the verdict will flatter" in warning.message for warning in report.warnings)


def test_refused_rows_have_a_number_and_a_reason_and_the_first_twenty_are_shown(tmp_path: Path, reader: Reader) -> None:
    rows = labelled(100)
    for row in rows[10:40]:
        row["text"] = " "
    report = check(classifier(), write(tmp_path / "rows.jsonl", rows), reader)
    assert (report.rows, report.usable, report.refused) == (100, 70, 30)
    assert [problem.row for problem in report.refused_rows] == list(range(11, 11 + REFUSED_ROWS_SHOWN))
    assert report.refused_rows[0].message == "the cell is empty."
    assert report.problems[0].row == 11
    assert "30 rows can't be used" in report.problems[0].message


def test_a_file_that_breaks_off_is_a_problem_with_the_row(tmp_path: Path, reader: Reader) -> None:
    path = write(tmp_path / "rows.jsonl", labelled(40))
    path.write_text(path.read_text(encoding="utf-8") + '{"text": "half', encoding="utf-8")
    report = check(classifier(), path, reader)
    assert report.usable == 40
    assert report.problems[0].row == 41


def test_very_few_and_very_uneven_rows_are_warned_of(tmp_path: Path, reader: Reader) -> None:
    few = check(classifier(), write(tmp_path / "few.jsonl", labelled(20)), reader)
    assert any("very few" in warning.message for warning in few.warnings)
    assert few.held_out is not None
    none = few.model_copy(update={"held_out": few.held_out.model_copy(update={"train": 0}), "tokens": None})
    validator: Any = SimpleNamespace(skips_bad_rows=False, batch_size=4, max_length_field="training.max_length")
    warnings = warnings_of(none, classifier(), Findings(), validator, None)
    [warning] = [warning for warning in warnings if warning.field == "dataset"]
    assert "no row is left to train on" in warning.message and "hold out fewer" in str(warning.remedy)
    uneven = [{**row, "label": "rare" if n < 4 else "usual"} for n, row in enumerate(labelled(400))]
    report = check(classifier(), write(tmp_path / "uneven.jsonl", uneven), reader)
    assert report.classes == {"usual": 396, "rare": 4}
    assert any("very uneven" in warning.message for warning in report.warnings)


def test_a_chosen_length_far_above_the_longest_text_is_warned_of_and_the_default_is_not(
    tmp_path: Path, reader: Reader
) -> None:
    path = write(tmp_path / "rows.jsonl", labelled(80))
    chosen = check(classifier(training={"max_length": 64}), path, reader)
    assert any("the longest text has" in warning.message for warning in chosen.warnings)
    default = check(classifier(), path, reader)
    assert not any("the longest text has" in warning.message for warning in default.warnings)


def test_a_check_that_must_stop_tells_what_it_saw_and_that_it_is_not_all(tmp_path: Path, reader: Reader) -> None:
    report = check(classifier(), write(tmp_path / "rows.jsonl", labelled(3000)), reader, should_stop=lambda: True)
    assert not report.complete
    assert 0 < report.rows < 3000
    assert report.held_out is None
    assert "only the first" in report.warnings[0].message


def test_rows_that_share_a_text_stay_together_and_only_case_lets_a_pair_leak(tmp_path: Path, reader: Reader) -> None:
    pairs = [(f"the town {n // 2}", f"old report {n // 2}") for n in range(80)]
    rows = [
        {"one": a.upper() if n % 2 else b, "two": b.upper() if n % 2 else a, "score": float(n % 6)}
        for n, (a, b) in enumerate(pairs)
    ]
    spec = TrainEmbedder.model_validate(
        {
            "kind": "train-embedder",
            "name": "n",
            "model": "m",
            "dataset": "d",
            "sentence1": "one",
            "sentence2": "two",
            "score": "score",
            "score_range": [0, 5],
        }
    )
    report = check(spec, write(tmp_path / "rows.jsonl", rows), reader)
    assert (report.usable, report.tokens and report.tokens.sequences) == (80, 160)
    assert report.held_out is not None
    assert report.held_out.leaked > 0
    exact = [{**row, "one": str(row["one"]).lower(), "two": str(row["two"]).lower()} for row in rows]
    tied = check(spec, write(tmp_path / "rows.jsonl", exact), reader).held_out
    assert tied is not None
    assert (tied.leaked, tied.train, tied.validation) == (0, 60, 20)
    rows[3]["score"] = 7.0
    outside = check(spec, write(tmp_path / "rows.jsonl", rows), reader)
    assert [(problem.row, problem.field) for problem in outside.refused_rows] == [(4, "score")]


def test_all_rows_of_a_query_stay_on_one_side(tmp_path: Path, reader: Reader) -> None:
    rows = [{"query": f"the town {n // 8}", "passage": f"old report {n}", "label": n % 2} for n in range(320)]
    spec = TrainReranker.model_validate(
        {"kind": "train-reranker", "name": "n", "model": "m", "dataset": "d", "passage": "passage", "label": "label"}
    )
    held = check(spec, write(tmp_path / "rows.jsonl", rows), reader).held_out
    assert held is not None
    assert (held.unit, held.train, held.validation, held.leaked) == ("query", 256, 64, 0)


def test_pairs_to_be_scored_are_counted_together_and_not_split(tmp_path: Path, reader: Reader) -> None:
    rows = [{"a": "the town", "b": "old report"}] * 40
    spec = ScorePairs.model_validate(
        {"kind": "score-pairs", "name": "n", "teacher": "m", "dataset": "d", "pair": ["a", "b"]}
    )
    report = check(spec, write(tmp_path / "rows.jsonl", rows), reader)
    assert report.held_out is None
    assert report.tokens is not None
    assert report.tokens.p50 == 2 + 2 + 3
    assert report.duplicates == 39


def test_conversations_are_checked_and_a_row_without_an_answer_is_refused(tmp_path: Path, reader: Reader) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"the town {n}"}, {"role": "assistant", "content": "old report"}]}
        for n in range(60)
    ]
    rows[7] = {"messages": [{"role": "user", "content": "the town"}]}
    spec = FinetuneLlm.model_validate({"kind": "finetune-llm", "name": "n", "model": "m", "dataset": "d"})
    report = check(spec, write(tmp_path / "rows.jsonl", rows), Reader())
    assert (report.usable, report.refused) == (59, 1)
    assert report.refused_rows[0].row == 8
    assert report.problems
    assert report.tokens is not None
    assert (report.tokens.unit, report.tokens.counted_by) == ("conversation", "characters")


def test_bad_rows_may_be_left_out_and_are_warned_of(tmp_path: Path, reader: Reader) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"the town {n}", "chosen": "old report", "rejected": "old report" if n == 7 else "new"}
        for n in range(60)
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    document = {"kind": "finetune-llm", "name": "n", "model": "m", "dataset": "d", "objective": "dpo"}
    strict = check(FinetuneLlm.model_validate(document), path, Reader())
    assert [problem.row for problem in strict.problems] == [8]
    lenient = check(FinetuneLlm.model_validate({**document, "data": {"bad_rows": "skip"}}), path, Reader())
    assert (lenient.problems, lenient.usable, lenient.refused) == ((), 59, 1)
    assert lenient.warnings[0].row == 8 and "1 row can't be used" in lenient.warnings[0].message
    split = load_examples(
        parts_of(CheckedFile.of(path)), FinetuneLlm.model_validate({**document, "data": {"bad_rows": "skip"}})
    )
    assert (len(split.train) + len(split.validation), split.skipped) == (59, 1)
    with pytest.raises(RunFailed, match="row 8"):
        load_examples(parts_of(CheckedFile.of(path)), FinetuneLlm.model_validate(document))


def test_memory_does_not_grow_with_the_length_of_the_texts(tmp_path: Path) -> None:
    """What is kept of a text is its hash."""
    assert text_hash("x" * 1_000_000) < 1 << 64
    assert text_hash("  The Town ") == text_hash("the town") != text_hash("the towns")

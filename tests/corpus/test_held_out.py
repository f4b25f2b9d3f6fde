"""Rows that the spec says judge: the check and the runner deal them alike, for every kind that trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile, told_apart
from corpus.conversations.identity import content_and_prompt
from corpus.held_out import DataPart, parts_of
from corpus.splits import VALIDATION
from jobspecs.data_report import DataReport
from jobspecs.problems import InvalidInput
from jobspecs.registry import JobSpec, parse_spec
from workers.training.classification.data import load_texts, sample_and_split
from workers.training.embedding.data import load_rows, split_rows
from workers.training.llm.rows import load_examples
from workers.training.ranking.data import load_pairs, split_by_query

#: Kind -> the spec's own fields, and how the runner deals the rows: those to train on, the judging ones, as texts.

ROW = {"text": "text {n}", "label": "class {c}", "a": "question {n}", "b": "answer {n}", "prompt": "say {n}"}


def _classifier(parts: Sequence[DataPart], spec: Any) -> tuple[int, list[str]]:
    split = sample_and_split(load_texts(parts, spec.text, spec.label), spec)
    return len(split.train), list(split.validation.texts)


def _embedder(parts: Sequence[DataPart], spec: Any) -> tuple[int, list[str]]:
    split = split_rows(load_rows(parts, spec), spec)
    return len(split.train), split.validation.column(0)


def _reranker(parts: Sequence[DataPart], spec: Any) -> tuple[int, list[str]]:
    split = split_by_query(load_pairs(parts, spec), spec)
    return len(split.train), list(split.validation.queries)


def _llm(parts: Sequence[DataPart], spec: Any) -> tuple[int, list[str]]:
    split = load_examples(parts, spec)
    return len(split.train), [content_and_prompt(example)[1] for example in split.validation]


KINDS: dict[str, tuple[dict[str, Any], Callable[[Sequence[DataPart], Any], tuple[int, list[str]]]]] = {
    "train-classifier": ({"text": "text", "label": "label"}, _classifier),
    "train-embedder": ({"anchor": "a", "positive": "b"}, _embedder),
    "train-reranker": ({"query": "a", "positive": "b"}, _reranker),
    "finetune-llm": ({"data": {"prompt": "{prompt}", "completion": "{b}"}}, _llm),
}


def spec_of(kind: str, validation: dict[str, Any], **changes: Any) -> Any:
    fields: dict[str, Any] = KINDS[kind][0]
    return parse_spec(
        {"kind": kind, "name": "n", "model": "m", "dataset": "d", **fields, "validation": validation, **changes}
    )


def write(path: Path, numbers: Sequence[int], **cells: Callable[[int], str]) -> CheckedFile:
    rows = [{name: text.format(n=n, c=n % 3) for name, text in ROW.items()} for n in numbers]
    for n, row in zip(numbers, rows, strict=True):
        row.update({name: of(n) for name, of in cells.items()})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return CheckedFile.of(path)


def check(spec: JobSpec, file: CheckedFile, held_out: CheckedFile | None = None) -> DataReport:
    report = check_data(spec, file, Reader(), held_out=held_out)
    assert report is not None
    return report


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_of_a_held_out_data_set_judge_and_none_of_them_trains(kind: str, tmp_path: Path) -> None:
    data, official = write(tmp_path / "data.jsonl", range(30)), write(tmp_path / "test.jsonl", range(100, 112))
    spec = spec_of(kind, {"dataset": "official"})
    trained, judging = KINDS[kind][1](parts_of(data, official, spec=spec), spec)
    held = check(spec, data, official).held_out
    assert held is not None and (held.train, held.validation, held.leaked) == (30, 12, 0)
    assert (trained, [text.rpartition(" ")[2] for text in judging]) == (30, [str(n) for n in range(100, 112)])
    # The job reads the spec as it was stored.
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_says_which_rows_judge_and_a_sample_is_taken_of_the_others(kind: str, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(40), part=lambda n: ("train", "dev", "test", "train")[n % 4])
    spec = spec_of(kind, {"column": "part", "values": ["dev", "test"]}, rows=10)
    trained, judging = KINDS[kind][1](parts_of(data, None, spec=spec), spec)
    assert (trained, sorted(int(text.rpartition(" ")[2]) for text in judging)) == (
        10,
        [n for n in range(40) if n % 4 in (1, 2)],
    )
    held = check(spec, data).held_out
    assert held is not None and (held.train, held.validation) == (10, 20)


def test_rows_that_both_train_and_judge_are_told(tmp_path: Path) -> None:
    data, official = write(tmp_path / "data.jsonl", range(60)), write(tmp_path / "test.jsonl", range(50, 90))
    report = check(spec_of("train-classifier", {"dataset": "official"}), data, official)
    assert report.held_out is not None and report.held_out.leaked == 10
    assert any("10 of 40 held-out rows are also trained on" in warning.message for warning in report.warnings)


def test_warnings_of_rows_that_judge_name_their_file(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(60))
    numbers, label = [*range(100, 120), 5], lambda n: "class 0" if n == 5 else f"class {n % 3}"
    official = write(tmp_path / "test.jsonl", numbers, label=label)
    report = check(spec_of("train-classifier", {"dataset": "official"}), data, official)
    assert report.held_out is not None
    assert (report.held_out.first_leaked_row, report.held_out.first_leaked_file) == (21, "test.jsonl")
    said = {warning.message.split(":")[0]: warning for warning in report.warnings}
    leak = next(warning for message, warning in said.items() if "also trained on" in message)
    assert (leak.file, leak.row) == ("test.jsonl", 21)
    contradiction = said["1 text stands with several classes, the first in rows 6 and 21 of test.jsonl"]
    assert (contradiction.file, contradiction.row) == ("test.jsonl", 21)


def test_a_file_of_the_same_name_is_told_apart_by_its_data_set(tmp_path: Path) -> None:
    for folder in ("own", "given"):
        (tmp_path / folder).mkdir()
    files = {"dataset": write(tmp_path / "own" / "rows.jsonl", range(60))}
    files["test"] = write(tmp_path / "given" / "rows.jsonl", [*range(100, 130), 5])
    named = told_apart(files, {"dataset": "news@1", "test": "official@2"})
    assert [file.name for file in named.values()] == ["rows.jsonl", "rows.jsonl of official@2"]
    report = check(spec_of("train-classifier", {"dataset": "official"}), named["dataset"], named["test"])
    (leak,) = [warning for warning in report.warnings if "also trained on" in warning.message]
    assert (leak.file, leak.row) == ("rows.jsonl of official@2", 31)
    assert told_apart({"dataset": named["dataset"]}, {}) == {"dataset": files["dataset"]}


def test_classes_that_only_rows_that_judge_have_are_refused_by_name(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(30))
    official = write(tmp_path / "test.jsonl", range(9), label=lambda n: "Sport" if n == 4 else f"class {n % 3}")
    report = check(spec_of("train-classifier", {"dataset": "official"}), data, official)
    assert [(problem.field, "'Sport'" in problem.message) for problem in report.problems] == [("label", True)]


def test_what_the_held_out_data_lack_is_refused_with_their_files_name(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(30))
    bare, empty = tmp_path / "bare.csv", tmp_path / "empty.csv"
    bare.write_text("text,topic\na,b\n", encoding="utf-8")
    empty.write_text("text,label\na,class 1\nb,\n", encoding="utf-8")
    spec = spec_of("train-classifier", {"dataset": "official"})
    (lacking,) = check(spec, data, CheckedFile.of(bare)).problems
    assert lacking.file == "bare.csv" and "label" in lacking.message
    (hole,) = check(spec, data, CheckedFile.of(empty)).problems
    assert (hole.file, hole.row) == ("empty.csv", 2)


@pytest.mark.parametrize(
    ("column", "said"), [("part", "holds 'test' in no row"), ("split", "empty"), ("label", "holds 'test' in no row")]
)
def test_a_column_that_names_no_row_to_judge_is_refused(column: str, said: str, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(30), part=lambda n: "train")
    (problem,) = check(spec_of("train-classifier", {"column": column, "values": ["test"]}), data).problems
    assert said in problem.message and problem.file == "data.jsonl"


@pytest.mark.parametrize("section", ["validation", "test"])
def test_a_misspelt_column_of_a_given_split_is_told_by_the_specs_field(section: str, tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("text,label,split\n" + "a,x,train\nb,y,train\nc,x,test\nd,y,test\n" * 9, encoding="utf-8")
    given = {"column": "splt", "values": ["test"]}
    spec = spec_of(
        "train-classifier", **({section: given} if section == "validation" else {"validation": {}, section: given})
    )
    (problem,) = check(spec, CheckedFile.of(table)).problems
    assert (problem.field, problem.row) == (f"{section}.column", None)
    assert problem.message == "there is no column 'splt'; the columns are text, label, split."
    # JSON's rows need not have the same fields: the first that lacks it is named.
    (problem,) = check(spec, write(tmp_path / "data.jsonl", range(30), split=lambda n: "test")).problems
    assert (problem.field, problem.row, "'splt'" in problem.message) == (f"{section}.column", 1, True)


def test_one_of_several_values_that_no_row_has_is_refused_by_its_name(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(30), part=lambda n: "dev" if n % 3 == 0 else "train")
    spec = spec_of("train-classifier", {"column": "part", "values": ["dev", "Test"]})
    (problem,) = check(spec, data).problems
    assert "holds 'Test' in no row" in problem.message and problem.remedy == "It holds: dev, train."
    (problem,) = check(spec_of("train-classifier", {"column": "part", "values": [" dev"]}), data).problems
    assert problem.remedy == "It holds: dev, train. Spaces around what it holds are left out."


@pytest.mark.parametrize(
    ("kind", "validation", "said"),
    [
        ("train-classifier", {"dataset": "x", "fraction": 0.2}, "leave fraction out"),
        ("train-classifier", {"dataset": "x", "stratify": True}, "leave stratify out"),
        ("finetune-llm", {"column": "split", "values": ["test"], "rows_max": 10}, "leave rows_max out"),
        ("train-embedder", {"dataset": "x", "column": "split", "values": ["test"]}, "not both"),
        ("train-reranker", {"column": "split"}, "belong together"),
    ],
)
def test_ways_to_hold_out_are_not_mixed(kind: str, validation: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        spec_of(kind, validation)


def dealt(kind: str, parts: Sequence[DataPart], spec: Any) -> tuple[list[int], ...]:
    """Numbers of the rows that train, judge and choose, as the runner deals them."""
    split: Any
    if kind == "finetune-llm":
        split = load_examples(parts, spec)
        return tuple([example.row for example in side] for side in (split.train, split.validation, split.choosing))
    if kind == "train-classifier":
        split = sample_and_split(load_texts(parts, spec.text, spec.label), spec)
    elif kind == "train-embedder":
        split = split_rows(load_rows(parts, spec), spec)
    else:
        split = split_by_query(load_pairs(parts, spec), spec)
    choosing = split.fit.subset(np.flatnonzero(split.fit.roles == VALIDATION))
    return tuple(side.numbers.tolist() for side in (split.train, split.validation, choosing))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_test_judge_those_of_validation_choose_and_the_others_train(kind: str, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(40), part=lambda n: ("train", "dev", "test", "train")[n % 4])
    official, dev = write(tmp_path / "test.jsonl", range(100, 112)), write(tmp_path / "dev.jsonl", range(200, 209))
    column = spec_of(kind, {"column": "part", "values": ["dev"]}, test={"column": "part", "values": ["test"]}, rows=15)
    train, judging, choosing = dealt(kind, parts_of(data, spec=column), column)
    assert len(train) == 15 and {(n - 1) % 4 for n in train} <= {0, 3}
    assert (judging, choosing) == (list(range(3, 41, 4)), list(range(2, 41, 4)))
    held = check(column, data).held_out
    assert held is not None and (held.train, held.validation, held.choosing) == (15, 10, 10)
    files = spec_of(kind, {"dataset": "dev"}, test={"dataset": "official"})
    assert [len(side) for side in dealt(kind, parts_of(data, dev, official, files), files)] == [40, 12, 9]
    report = check_data(files, data, Reader(), held_out=dev, test=official)
    assert report is not None and report.held_out is not None
    assert (report.held_out.train, report.held_out.validation, report.held_out.choosing) == (40, 12, 9)
    assert report.rows == 61


@pytest.mark.parametrize("kind", KINDS)
def test_beside_test_nothing_is_drawn_unless_the_spec_says_how_much(kind: str, tmp_path: Path) -> None:
    data, official = write(tmp_path / "data.jsonl", range(40)), write(tmp_path / "test.jsonl", range(100, 112))
    alone = spec_of(kind, {"seed": 7}, test={"dataset": "official"})
    as_validation = spec_of(kind, {"dataset": "official", "seed": 7})
    parts = parts_of(data, None, official, alone)
    assert dealt(kind, parts, alone) == dealt(kind, parts_of(data, official, spec=as_validation), as_validation)
    assert parse_spec(alone.model_dump(mode="json")) == alone
    drawn = spec_of(kind, {"fraction": 0.25}, test={"dataset": "official"})
    train, judging, choosing = dealt(kind, parts, drawn)
    assert (len(train), len(judging), len(choosing)) == (30, 12, 10)
    # What chooses is what would judge without `test`.
    without = spec_of(kind, {"fraction": 0.25})
    assert (train, choosing) == dealt(kind, parts_of(data), without)[:2]
    report = check_data(drawn, data, Reader(), test=official)
    assert report is not None and report.held_out is not None
    assert (report.held_out.train, report.held_out.validation, report.held_out.choosing) == (30, 12, 10)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"validation": {"fraction": 0}}, "no row would judge"),
        ({"test": {}}, "name the rows"),
        ({"test": {"dataset": "d"}, "validation": {"dataset": "d"}}, "name the same rows"),
        (
            {
                "test": {"column": "part", "values": ["dev", "test"]},
                "validation": {"column": "part", "values": ["dev"]},
            },
            "name the same rows",
        ),
    ],
)
def test_sections_that_leave_no_row_to_judge_by_are_refused(sections: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"kind": "train-classifier", "name": "n", "model": "m", "dataset": "d"}
    with pytest.raises(InvalidInput, match=message):
        parse_spec({**fields, "text": "text", "label": "label", **sections})


def test_a_row_that_two_columns_name_for_both_is_refused_with_its_number(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(40), dev=lambda n: str(n % 5), part=lambda n: str(n % 4))
    spec = spec_of("train-classifier", {"column": "dev", "values": ["1"]}, test={"column": "part", "values": ["2"]})
    problems = check(spec, data).problems
    assert problems[0].row == 7 and "one that chooses can't judge" in problems[0].message


def test_what_check_says_of_rows_that_choose(tmp_path: Path) -> None:
    text, label = (lambda n: f"text {n // 3}"), (lambda n: f"class {n // 3 % 2}")
    part = lambda n: ("train", "dev", "test")[n % 3]  # noqa: E731
    data = write(tmp_path / "data.jsonl", range(90), text=text, label=label, part=part)
    dev, test = {"column": "part", "values": ["dev"]}, {"column": "part", "values": ["test"]}
    report = check(spec_of("train-classifier", dev, test=test, training={"epochs": 2}), data)
    told = " ".join(warning.message for warning in report.warnings)
    assert "30 rows of validation neither train nor judge, and decide nothing: nothing is chosen while" in told
    # Every text is in all three parts.
    assert report.held_out is not None and report.held_out.leaked == 30
    assert "30 of 30 held-out rows are also trained on" in told
    watched = check(spec_of("train-classifier", dev, test=test), data)
    assert not any("decide nothing" in warning.message for warning in watched.warnings)

"""What rows that choose and rows that judge may decide, and that the check says of it what the job does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from jobspecs.data_report import DataReport
from jobspecs.registry import parse_spec
from tests.chat_models import CHATML, write_chat_model
from workers.run.context import RunFailed
from workers.training.classification.data import load_texts, sample_and_split
from workers.training.embedding.data import load_rows
from workers.training.llm.rows import load_examples, load_renderer, render

DEV, TEST = {"column": "part", "values": ["dev"]}, {"column": "part", "values": ["test"]}
PARTS = {"validation": DEV, "test": TEST}
PAIRS = {"kind": "train-embedder", "sentence1": "a", "sentence2": "b", "score": "score"}
CLASSIFIER = {"kind": "train-classifier", "text": "a", "label": "label"}


def spec_of(**fields: Any) -> Any:
    return parse_spec({"name": "n", "model": "m", "dataset": "d", **fields})


def write(path: Path, rows: Sequence[dict[str, Any]]) -> CheckedFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return CheckedFile.of(path)


def checked(spec: Any, data: CheckedFile, model: Path | None = None) -> DataReport:
    report = check_data(spec, data, Reader.load(model))
    assert report is not None
    return report


@pytest.mark.parametrize(("sections", "role"), [({"test": TEST}, "test"), ({"validation": TEST}, "test")])
def test_how_uneven_the_rows_are_that_judge_has_no_say_in_how_classes_are_weighed(
    sections: dict[str, Any], role: str, tmp_path: Path
) -> None:

    rows = [{"a": f"text {n}", "label": "good" if n % 10 < 4 else "bad", "part": "train"} for n in range(100)]
    rows += [{"a": f"new {n}", "label": "good" if n else "bad", "part": role} for n in range(300)]
    data, spec = write(tmp_path / "rows.jsonl", rows), spec_of(**CLASSIFIER, **sections)
    split = sample_and_split(load_texts(parts_of(data, spec=spec), "a", "label"), spec)
    assert not split.balanced
    # How the verdict is measured is another question: by accuracy, `good` for all would be nearly right.
    assert split.metric == checked(spec, data).settings["metric"] == "macro_f1"


def test_scores_in_between_are_refused_alike_where_the_loss_knows_only_alike_and_different(tmp_path: Path) -> None:
    rows = [{"a": f"a {n}", "b": f"b {n}", "score": 0.25 if n == 1 else n % 2} for n in range(60)]
    data, spec = write(tmp_path / "rows.jsonl", rows), spec_of(**PAIRS, loss="contrastive")
    (problem,) = checked(spec, data).problems
    assert problem.row == 2 and "0.25 is neither end of score_range" in problem.message
    with pytest.raises(RunFailed, match=r"row 2.*0\.25 is neither end of score_range"):
        load_rows(parts_of(data, spec=spec), spec)
    assert not checked(spec_of(**PAIRS), data).problems


def test_rows_that_choose_but_begin_to_answer_too_late_are_refused_by_check_and_job(tmp_path: Path) -> None:
    parts = ["train"] * 40 + ["dev"] * 8 + ["test"] * 40
    said = [f"{n} " + "wort " * (60 if part == "dev" else 2) for n, part in enumerate(parts)]
    rows = [{"prompt": text, "completion": "good", "part": part} for text, part in zip(said, parts, strict=True)]
    data, model = write(tmp_path / "rows.jsonl", rows), write_chat_model(tmp_path / "model", CHATML)
    fields: dict[str, Any] = {"kind": "finetune-llm", **PARTS}
    training: dict[str, Any] = {"epochs": 1, "max_length": 128}
    watching = spec_of(**fields, training={**training, "keep_best": True})
    (problem,) = checked(watching, data, model).problems
    assert problem.field == "validation" and "all 8 rows that choose begin their answers after 128" in problem.message
    renderer = load_renderer(model, watching)
    split = load_examples(parts_of(data, spec=watching), watching, renderer)
    with pytest.raises(RunFailed, match="leaves anything to learn"):
        render(split.choosing, renderer, watching, 128)
    # Where nothing looks at them the job never reads them.
    assert not checked(spec_of(**fields, training=training), data, model).problems

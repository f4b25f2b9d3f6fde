"""Models compared on the rows that judged both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.comparing import SHOWN, compare
from jobspecs.manifest import PREDICTIONS_KEY

GENERATOR = np.random.default_rng(3)


def kept(path: Path, kind: str, columns: dict[str, Any], rows: Any = None, dataset: str = "ada/d@1") -> Path:
    count = len(next(iter(columns.values())))
    rows = np.arange(1, count + 1) if rows is None else rows
    table = pa.table({"row": rows, "text": np.asarray(rows) * 7, **columns})
    document = {"kind": kind, "dataset": {"reference": dataset}}
    pq.write_table(table.replace_schema_metadata({PREDICTIONS_KEY: json.dumps(document)}), path)
    return path


def classifier(path: Path, said: list[str], labels: list[str], **more: Any) -> Path:
    columns = {name: pa.array(values).dictionary_encode() for name, values in (("label", labels), ("predicted", said))}
    return kept(path, "train-classifier", columns, **more)


def test_rows_that_flipped_are_counted_and_the_difference_has_a_paired_interval(tmp_path: Path) -> None:
    labels = ["a", "b"] * 100
    first = [label if place % 4 else "c" for place, label in enumerate(labels)]  # 150 right
    second = [label if place % 5 else "c" for place, label in enumerate(labels)]  # 160 right
    order = GENERATOR.permutation(200)
    other = classifier(
        tmp_path / "2", [second[place] for place in order], [labels[place] for place in order], rows=order + 1
    )
    found = compare(classifier(tmp_path / "1", first, labels), other)
    assert (found["measure"], found["units"], found["first"], found["second"]) == ("accuracy", 200, 0.75, 0.8)
    assert (found["better"], found["worse"]) == (40, 30), "whatever the order of their rows"
    assert found["difference"] == pytest.approx(0.05) and -0.06 < found["low"] < 0 < found["high"] < 0.16
    assert len(found["changed"]) == SHOWN
    row = next(one for one in found["changed"] if one["row"] == 5)
    assert (row["label"], row["first_said"], row["second_said"]) == ("a", "c", "a")
    same = compare(tmp_path / "1", tmp_path / "1")
    assert (same["difference"], same["low"], same["high"], same["changed"]) == (0, 0, 0, [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": np.arange(2, 6)}, "4 rows of ada/d@1, and 4 rows of ada/d@1; 3 are the same"),
        ({"dataset": "ada/other@1", "rows": np.arange(11, 15)}, "4 rows of ada/other@1; 0 are the same"),
    ],
)
def test_models_that_were_judged_on_other_rows_are_not_compared_and_it_says_why(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    labels = ["a", "b", "a", "b"]
    found = compare(classifier(tmp_path / "1", labels, labels), classifier(tmp_path / "2", labels, labels, **change))
    assert reason in found["why_not"] and found.keys() == {"why_not"}


def test_other_kinds_other_measures_and_broken_files_are_named(tmp_path: Path) -> None:
    labels = ["a", "b", "a", "b"]
    one = classifier(tmp_path / "1", labels, labels)
    llm = kept(tmp_path / "2", "finetune-llm", {"tokens": np.ones(4), "log_prob": np.ones(4)})
    assert "one was made by train-classifier, the other by finetune-llm" in compare(one, llm)["why_not"]
    rewarded = {"tokens": np.ones(4), "log_prob": np.ones(4), "rejected_log_prob": np.ones(4), "reward": np.ones(4)}
    assert "judged by" in compare(llm, kept(tmp_path / "3", "finetune-llm", rewarded))["why_not"]
    assert "lacks" in compare(one, kept(tmp_path / "4", "train-classifier", {"label": labels}))["why_not"]
    (tmp_path / "5").write_bytes(b"PAR1 no parquet PAR1")
    assert "can't be read" in compare(one, tmp_path / "5")["why_not"]


def test_each_kind_has_a_figure_of_its_own(tmp_path: Path) -> None:
    search = [kept(tmp_path / f"s{n}", "train-embedder", {"trained_ndcg_10": np.full(9, 0.5 + n / 10)}) for n in (0, 1)]
    assert compare(*search)["difference"] == pytest.approx(0.1)
    scored = [
        kept(
            tmp_path / f"p{n}",
            "train-embedder",
            {"score": np.ones(9), "trained": np.full(9, n / 2), "cluster": [0, 1, 2] * 3},
        )
        for n in (0, 1)
    ]
    assert compare(*scored)["difference"] == pytest.approx(0.5)
    ranked = []
    for n in (0, 1):
        # Three queries of two passages each; the second model puts the better one first for all.
        columns = {"query_text": np.repeat([11, 12, 13], 2), "label": [1.0, 0.0] * 3}
        ranked.append(kept(tmp_path / f"r{n}", "train-reranker", {**columns, "trained": [n, 0.5] * 3}))
    found = compare(*ranked)
    assert (found["units"], found["first"], found["second"], found["better"]) == (3, 0.0, 1.0, 3)
    answers = [
        kept(tmp_path / f"l{n}", "finetune-llm", {"tokens": np.full(9, 4), "log_prob": np.full(9, -8.0 + n)})
        for n in (0, 1)
    ]
    assert compare(*answers)["difference"] == pytest.approx(0.25)

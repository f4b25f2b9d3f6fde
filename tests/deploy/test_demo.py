"""The demo's data. The demo itself is `make demo`; its steps, on a tiny model, are `tests/journey`."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from deploy.demo import headlines
from deploy.demo.__main__ import _name_of, _spec
from deploy.demo.corpus import ROWS, generate, write_csv
from deploy.demo.headlines import FILE_NAME, find_headlines
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.registry import parse_spec


def test_the_generated_corpus_is_the_same_for_everybody(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    digest = hashlib.sha256((tmp_path / "a.csv").read_bytes()).hexdigest()
    assert digest == "4b0fd1303b2ef6b833e9fe8eaba2df9fff9d4ad4b82f50f934dd4cff37a95a69"


def test_no_generated_headline_comes_twice_and_both_classes_are_common() -> None:
    rows = list(generate())
    assert len({headline for _, headline, _ in rows}) == ROWS
    shares = Counter(quality for _, _, quality in rows)
    assert shares.keys() == {"good", "bad"}
    assert min(shares.values()) > 0.3 * ROWS


def test_the_headlines_to_classify_were_never_seen() -> None:
    seen = {headline for _, headline, _ in generate()}
    assert not seen & set(headlines._ENGLISH)


def test_data_of_the_wrong_content_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headlines, "_downloaded", lambda: None)
    (tmp_path / FILE_NAME).write_bytes(b"something else")
    found = find_headlines(tmp_path, {"EIGENWERK_DATA_DIR": str(tmp_path)})
    assert "generated" in found.source
    with found.path.open(encoding="utf-8", newline="") as stream:
        assert csv.DictReader(stream).fieldnames == ["id", "headline", "quality"]


def test_the_right_file_is_taken_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"id,headline,quality\n"
    monkeypatch.setattr(headlines, "_SHA256", hashlib.sha256(content).hexdigest())
    (tmp_path / FILE_NAME).write_bytes(content)
    assert find_headlines(tmp_path, {"EIGENWERK_DATA_DIR": str(tmp_path)}).path == tmp_path / FILE_NAME


@pytest.mark.parametrize(("rows_max", "rows"), [(None, None), (5000, 5000), (20_000, 13_306)])
def test_the_spec_of_the_demo_is_valid(rows_max: int | None, rows: int | None) -> None:
    spec = parse_spec(_spec("minilm-l6@1", "newsticker@1", 13_306, 91_000_000, rows_max))
    assert isinstance(spec, TrainClassifier)
    assert spec.rows == rows


def test_a_folder_gives_a_name_for_the_registry(tmp_path: Path) -> None:
    assert _name_of(tmp_path / "e5 small (german)") == "e5-small-german"

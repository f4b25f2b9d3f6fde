"""How much time the reading of a table may take."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from dataclasses import replace

import pytest

from api import foreign_files
from storage.tabular import detect_format
from tests.api.conftest import HEADLINES, Api, RunApi


def pushed(api: Api, content: bytes) -> tuple[int, str]:
    answer = api.client.put("/v1/datasets/t", params={"file_name": "t.csv.gz"}, content=content, timeout=500)
    return answer.status_code, answer.text


def test_an_honest_table_that_compresses_twentyfold_is_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 MB of answers to a questionnaire, read in 2 s; less of them, and less time for any file, than people send."""
    monkeypatch.setattr(foreign_files, "_CPU_S", 1)
    # CPU counts here; the clock, which runs while the process starts, is for quiet machines.
    monkeypatch.setattr(foreign_files, "_PATIENCE", 100)
    drawn = random.Random(1)
    lines = [",".join(f"q{number}" for number in range(60))]
    lines += [",".join(drawn.choices("0123456789", [200] + [1] * 9, k=60)) for _ in range(50_000)]
    text = "\n".join(lines).encode()
    content = gzip.compress(text)
    assert 18 < len(text) / len(content) < 24
    status, answer = pushed(api, content)
    assert status == 201, answer


def test_a_small_file_that_takes_long_is_refused_soon(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_files, "_CPU_S", 1)
    status, answer = pushed(api, gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000))
    assert status == 422
    assert "too much time; there are 1 s of CPU for a file of its kind and size" in answer
    assert "uncompressed" in answer
    assert "EIGENWERK_TABLE_SECONDS_PER_MB" in answer


def test_what_a_compressed_table_may_take_follows_the_setting(api: Api) -> None:
    for seconds_per_mb, cpu_s in ((20, 38), (30, 57), (1, 8)):
        settings = replace(api.settings, table_seconds_per_mb=seconds_per_mb)
        assert foreign_files.table_limits(1_900_000, detect_format("t.csv.gz"), settings).cpu_s == cpu_s


@pytest.mark.parametrize(
    ("limit", "words", "setting"),
    [
        ({"table_rows_max": 19}, "more than 19 rows", "EIGENWERK_TABLE_ROWS_MAX"),
        ({"table_bytes_max": 100}, "larger than 100 bytes", "EIGENWERK_TABLE_BYTES_MAX"),
    ],
)
def test_an_unpacked_table_is_bounded_in_rows_and_bytes(
    run_api: RunApi, limit: dict[str, int], words: str, setting: str
) -> None:
    with run_api(**limit) as api:
        status, answer = pushed(api, gzip.compress(HEADLINES.encode()))
        assert (status, words in answer, setting in answer) == (422, True, True)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_nobody_is_told_to_unpack_what_is_not_packed(name: str) -> None:
    assert "uncompressed" not in foreign_files.table_remedy(detect_format(name))


def test_names_that_no_answer_can_hold_are_refused_and_no_defect(api: Api) -> None:
    """Half a surrogate pair: JSON may escape one, and tarfile decodes bytes that are not UTF-8 so."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("\udcff.csv"))
    files = {
        "a.jsonl": rb'{"\ud800": "a"}',
        "b.json": rb'{"columns": ["\ud800", "\ud800"], "data": [["a", "b"]]}',
        "c.tar": tar.getvalue(),
    }
    for name, content in files.items():
        answer = api.client.put("/v1/datasets/t", params={"file_name": name}, content=content)
        assert (answer.status_code, "\\ud" in answer.text) == (422, True), answer.text

"""How much time the reading of a table may take."""

from __future__ import annotations

import gzip
import random

import pytest

from api import foreign_files
from storage.tabular import detect_format
from tests.api.conftest import Api


def pushed(api: Api, content: bytes) -> tuple[int, str]:
    answer = api.client.put("/v1/datasets/t", params={"file_name": "t.csv.gz"}, content=content, timeout=120)
    return answer.status_code, answer.text


def test_an_honest_table_that_compresses_twentyfold_is_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 MB of answers to a questionnaire, read in 2 s; less of them, and less time for any file, than people send."""
    monkeypatch.setattr(foreign_files, "_CPU_S", 1)
    drawn = random.Random(1)
    lines = [",".join(f"q{number}" for number in range(60))]
    lines += [",".join(drawn.choices("0123456789", [200] + [1] * 9, k=60)) for _ in range(25_000)]
    text = "\n".join(lines).encode()
    content = gzip.compress(text)
    assert 18 < len(text) / len(content) < 24
    assert pushed(api, content)[0] == 201


def test_a_small_file_that_takes_long_is_refused_soon(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_files, "_CPU_S", 1)
    status, answer = pushed(api, gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000))
    assert status == 422
    assert "too much time" in answer
    assert "uncompressed" in answer


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_nobody_is_told_to_unpack_what_is_not_packed(name: str) -> None:
    assert "uncompressed" not in foreign_files.table_remedy(detect_format(name))

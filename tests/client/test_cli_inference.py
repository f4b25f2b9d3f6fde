from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.conftest import Outcome
from tests.client.stub import Answer, Request, StubPlatform

Run = Callable[..., Outcome]


def embeddings(request: Request) -> Answer:
    """The first number is the text's own, if it is one."""
    texts = json.loads(request.body)["input"]
    data = [
        {"object": "embedding", "index": index, "embedding": [float(text.rpartition(" ")[2]), *[0.5] * 7]}
        for index, text in enumerate(texts)
    ]
    return 200, {"object": "list", "model": "m", "version": 1, "data": data}


def ranking(request: Request) -> Answer:
    """The longer the text, the better."""
    documents = json.loads(request.body)["documents"]
    order = sorted(range(len(documents)), key=lambda index: -len(documents[index]))
    results = [{"index": index, "relevance_score": len(documents[index]) / 1000} for index in order]
    return 200, {"model": "m", "version": 1, "results": results}


def test_embed_shows_people_the_beginning_of_each_vector(platform: StubPlatform, run: Run) -> None:
    platform.answers["POST /v1/embeddings"] = embeddings
    outcome = run("embed", "m", "text 1", "text 2", "--dimensions", "8", "--prompt", "query")
    assert outcome.code == 0, outcome.err
    beginning = "0.5000 0.5000 0.5000 0.5000 0.5000 …"
    assert outcome.out.splitlines() == [
        f"8 dimensions\t1.0000 {beginning}\ttext 1",
        f"8 dimensions\t2.0000 {beginning}\ttext 2",
    ]
    body = {"model": "m", "input": ["text 1", "text 2"], "dimensions": 8, "prompt_name": "query"}
    assert json.loads(platform.requests[-1].body) == body


def test_embed_gives_programs_all_vectors_of_a_file(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    platform.answers["POST /v1/embeddings"] = embeddings
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"zeile ü {number}\n" for number in range(300)), encoding="utf-8")
    answer = json.loads(run("embed", "m", "--file", str(file), "--json").out)
    assert [(item["index"], item["embedding"][0]) for item in answer["data"]] == [(n, n) for n in range(300)]
    assert [len(json.loads(request.body)["input"]) for request in platform.requests] == [256, 44]


def test_rerank_puts_the_best_of_all_portions_first(
    platform: StubPlatform, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.answers["POST /v1/rerank"] = ranking
    lines = ["x" * (number % 290) for number in range(300)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    outcome = run("rerank", "m", "what?", "-", "--top-k", "2")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [f"0.289\t290\t{'x' * 289}", f"0.288\t289\t{'x' * 288}"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    found = json.loads(run("rerank", "m", "what?", "-", "--json").out)["results"]
    assert sorted(item["index"] for item in found) == list(range(300))


def test_long_texts_travel_in_more_requests(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    platform.answers["POST /v1/rerank"] = ranking
    file = tmp_path / "texts.txt"
    file.write_text(f"{'a' * 90_000}\n" * 5)
    assert run("rerank", "m", "what?", "--file", str(file)).code == 0
    assert [len(json.loads(request.body)["documents"]) for request in platform.requests] == [2, 2, 1]


@pytest.mark.parametrize("arguments", [["embed", "m"], ["rerank", "m", "what?"], ["embed", "m", "a", "--file", "b"]])
def test_texts_come_from_one_place(run: Run, platform: StubPlatform, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert (outcome.code, platform.requests) == (2, [])
    assert "--file" in outcome.err


def test_a_file_that_is_not_there_is_named(run: Run, platform: StubPlatform, tmp_path: Path) -> None:
    outcome = run("embed", "m", "--file", str(tmp_path / "absent.txt"))
    assert outcome.code == 1
    assert "absent.txt" in outcome.err

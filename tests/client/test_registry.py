"""Aliases and sharing as people type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Outcome
from tests.client.documents import AT, model_version
from tests.client.stub import StubPlatform

Run = Callable[..., Outcome]
MODELS = "/v1/registry/models/admin/newsticker-quality"
ALIAS = f"{MODELS}/aliases/prod"
MOVE = {"version_from": 2, "actor": "user:ada", "at": AT}
HISTORY: dict[str, Any] = {
    "alias": "prod",
    "version": 1,
    "moves": [
        {**MOVE, "kind": "rollback", "version_to": 1, "reason": "slow"},
        {**MOVE, "kind": "set", "version_from": None, "version_to": 2, "reason": None},
    ],
}


@pytest.fixture
def registry(platform: StubPlatform) -> StubPlatform:
    platform.answers |= {
        "GET /v1/users/me": (200, {"id": "u", "name": "admin"}),
        f"GET {MODELS}/versions/3": (200, model_version({}, 3)),
        f"PUT {ALIAS}": (200, {"alias": "prod", "version": 3, "left_behind": ["served"]}),
        f"POST {ALIAS}/rollback": (200, {"alias": "prod", "version": 1}),
        f"DELETE {ALIAS}": (204, b""),
        f"GET {ALIAS}": (200, HISTORY),
        f"PATCH {MODELS}": (200, {"owner": "admin", "name": "newsticker-quality", "versions": []}),
        "GET /v1/registry/models": (200, {"data": [{**model_version({}), "owner": "ada"}]}),
    }
    return platform


def last(platform: StubPlatform) -> tuple[str, Any]:
    request = platform.requests[-1]
    return request.method, json.loads(request.body) if request.body else None


@pytest.mark.parametrize("words", [["newsticker-quality", "prod", "3"], ["newsticker-quality@3", "prod"]])
def test_an_alias_is_set_and_deployments_that_stay_behind_are_named(
    registry: StubPlatform, run: Run, words: list[str]
) -> None:
    outcome = run("models", "alias", *words, "--reason", "better")
    assert outcome.out == "newsticker-quality@prod is newsticker-quality@3\n"
    assert "eigenwerk deploy served --model newsticker-quality@prod" in outcome.err
    assert last(registry) == ("PUT", {"version": 3, "reason": "better"})


def test_an_alias_is_rolled_back_deleted_and_told_of(registry: StubPlatform, run: Run) -> None:
    assert run("models", "alias", "newsticker-quality", "prod", "--rollback").out.endswith("quality@1\n")
    assert last(registry) == ("POST", {})
    assert run("models", "alias", "newsticker-quality", "prod", "--delete").code == 0
    assert last(registry)[0] == "DELETE"
    assert run("models", "alias", "newsticker-quality", "prod").out.endswith("prod is newsticker-quality@1\n")
    told = run("models", "alias", "newsticker-quality", "prod", "--history").out
    assert "user:ada" in told and "rollback" in told and "slow" in told
    assert json.loads(run("models", "alias", "newsticker-quality", "prod", "--history", "--json").out)["version"] == 1


def test_an_alias_is_asked_for_one_thing_at_a_time(registry: StubPlatform, run: Run) -> None:
    for words in (["m", "prod", "3", "--rollback"], ["m@2", "prod", "3"], ["m", "prod", "--history", "--delete"]):
        assert run("models", "alias", *words).code == 2, words
    assert registry.requests == []


def test_a_model_is_shared_made_private_and_others_are_listed_with_their_owners(
    registry: StubPlatform, run: Run
) -> None:
    for command, wanted in (("share", "everyone"), ("unshare", "private")):
        assert run("models", command, "newsticker-quality").code == 0
        assert last(registry) == ("PATCH", {"visibility": wanted})
    assert "admin/newsticker-quality@1" in run("models", "list", "--shared").out
    assert registry.requests[-1].query == "shared=true"


def test_what_is_said_of_a_model_is_sent_as_changes_and_an_empty_text_takes_it_back(
    registry: StubPlatform, run: Run
) -> None:
    assert run("models", "tag", "newsticker-quality", "a", "b", "--remove", "c").code == 0
    assert last(registry) == ("PATCH", {"tags_added": ["a", "b"], "tags_removed": ["c"]})
    assert run("models", "describe", "newsticker-quality", "--licence", "mit", "--description", "").code == 0
    assert last(registry) == ("PATCH", {"description": None, "license": "mit"})
    assert run("models", "describe", "newsticker-quality").code == 2


def test_a_search_asks_for_all_that_was_named(registry: StubPlatform, run: Run) -> None:
    assert run("models", "search", "one", "two", "--tag", "a", "--tag", "b", "--base", "x@1", "--archived").code == 0
    asked = registry.requests[-1].query
    assert asked == "q=one+two&tag=a&tag=b&base=x%401&archived=true&shared=true"


def test_a_lineage_is_a_tree_in_both_directions(registry: StubPlatform, run: Run) -> None:
    base = {"role": "model", "reference": "admin/tiny@1", "digest": "b" * 64, "standing": "here", "now": "admin/tiny@1"}
    gone = {"role": "model", "reference": "ada/old@3", "digest": "c" * 64, "standing": "gone", "now": None}
    data = {"role": "dataset", "reference": "admin/headlines@1", "sha256": "e" * 64, "standing": "here"}
    child = {"role": "model", "reference": "ada/adapter@1", "digest": "f" * 64, "children": []}
    registry.answers[f"GET {MODELS}/versions/3/lineage"] = (
        200,
        {
            **{"reference": "admin/newsticker-quality@3", "digest": "a" * 64, "kind": "train-classifier"},
            **{"job_id": "3f2a" * 8, "code": {"eigenwerk": "0.1.0"}, "parents": [{**base, "parents": [gone]}]},
            **{"datasets": [data], "children": [child], "deployments": [{"name": "served", "state": "ready"}]},
        },
    )
    assert run("models", "lineage", "newsticker-quality@3").out.splitlines() == [
        "admin/newsticker-quality@3  aaaaaaaaaaaa…",
        "  made by train-classifier, job 3f2a3f2a, eigenwerk 0.1.0",
        "  from the models",
        "    model: admin/tiny@1  bbbbbbbbbbbb…",
        "      model: ada/old@3  cccccccccccc…  (deleted, or private to its owner)",
        "  from the data",
        "    dataset: admin/headlines@1  eeeeeeeeeeee…",
        "  made from it",
        "    model: ada/adapter@1  ffffffffffff…",
        "  served by",
        "    served  ready",
    ]


def test_a_card_is_written_with_the_pictures_that_it_links(registry: StubPlatform, run: Run, tmp_path: Path) -> None:
    card = f"{MODELS}/versions/3/card"
    registry.answers[f"GET {card}"] = (200, b"![loss by step](card/loss.svg) ![x](card/../secret.svg)\n")
    registry.answers[f"GET {card}/loss.svg"] = (200, b"<svg/>")
    assert run("models", "card", "newsticker-quality@3", "--out", str(tmp_path / "out")).code == 0
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"out/README.md", "out/card/loss.svg"}
    assert run("models", "card", "newsticker-quality@3").out.startswith("![loss by step]")
    (tmp_path / "file").write_text("")
    refused = run("models", "card", "newsticker-quality@3", "--out", str(tmp_path / "file"))
    assert refused.code == 1 and refused.err.startswith("error: The card can't be written")


def test_a_comparison_shows_spec_figures_and_the_rows_that_flipped(registry: StubPlatform, run: Run) -> None:
    rows = {
        **{"measure": "accuracy", "units": 200, "first": 0.7, "second": 0.75, "difference": 0.05, "low": 0.01},
        **{"high": 0.09, "better": 14, "worse": 4},
        "changed": [{"row": 12, "label": "good", "first": 0, "second": 1, "first_said": "bad", "second_said": "good"}],
    }
    answer: dict[str, Any] = {
        **{"first": "admin/q@1", "second": "admin/q@2", "rows": rows},
        "differences": [{"field": "training.epochs", "first": 1, "second": 3}],
        "figures": [{"name": "validation/accuracy", "first": 0.7, "first_low": 0.6, "first_high": 0.8, "second": 0.75}],
    }
    registry.answers["GET /v1/registry/comparison"] = (200, answer)
    out = run("models", "compare", "q@1", "q@2").out
    assert registry.requests[-1].query == "first=q%401&second=q%402"
    for part in (
        "training.epochs",
        "0.7 (0.6 to 0.8)",
        "+0.05 (+0.01 to +0.09), which is more than chance",
        "14; worse: 4",
    ):
        assert part in out, part
    assert out.splitlines()[-1].split() == ["12", "good", "bad", "good"]
    registry.answers["GET /v1/registry/comparison"] = (200, {**answer, "rows": None, "why_not": "other rows."})
    assert run("models", "compare", "q@1", "q@2").out.endswith("Not compared row by row: other rows.\n")

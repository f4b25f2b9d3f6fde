"""Aliases: every move is written down and can be taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.references import Reference
from jobspecs.verification import Cause, Verification, VerificationState
from tests.api.conftest import Api, sha256


@pytest.fixture
def versions(api: Api) -> Api:
    """An API whose user has three versions of a classifier."""
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", task="text-classification", files=(file,))
    owner_id = api.user_id()
    with api.database.unit_of_work() as work:
        for number in (1, 2, 3):
            work.models.add_version(owner_id, "quality", manifest=manifest, prefix=f"artifacts/{owner_id}/{number}")
    return api


def url(api: Api, alias: str = "prod") -> str:
    return f"/v1/registry/models/{api.user}/quality/aliases/{alias}"


def move(api: Api, version: int, reason: str | None = None) -> Any:
    answer = api.client.put(url(api), json={"version": version, "reason": reason})
    assert answer.status_code == 200, answer.text
    return answer.json()


def back(api: Api, **body: Any) -> Any:
    return api.client.post(f"{url(api)}/rollback", json=body).json()


def meaning(api: Api) -> int:
    version: int = api.client.get(f"/v1/registry/models/{api.user}/quality/versions/prod").json()["version"]
    return version


def test_the_history_tells_who_moved_an_alias_when_from_where_and_why(versions: Api) -> None:
    move(versions, 1)
    move(versions, 3, "better on long headlines")
    move(versions, 3, "it means that already")
    back(versions, reason="worse on short ones")
    told = versions.client.get(url(versions)).json()
    assert told["version"] == 1 == meaning(versions)
    seen = [(one["kind"], one["version_from"], one["version_to"], one["reason"]) for one in told["moves"]]
    assert seen == [
        ("rollback", 3, 1, "worse on short ones"),
        ("set", 1, 3, "better on long headlines"),
        ("set", None, 1, None),
    ]
    assert {one["actor"] for one in told["moves"]} == {f"user:{versions.user}"}
    times = [one["at"] for one in told["moves"]]
    assert times == sorted(times, reverse=True)


def test_roll_backs_go_step_by_step_and_stop_at_the_first_place(versions: Api) -> None:
    for number in (1, 2, 3):
        move(versions, number)
    assert back(versions)["version"] == 2
    assert back(versions)["version"] == 1, "not to where the roll-back came from"
    refused = back(versions)["error"]
    assert (refused["code"], meaning(versions)) == ("nothing_before", 1)
    move(versions, 3)
    assert back(versions)["version"] == 1, "what was taken back is no place to go back to"


def test_a_deleted_alias_means_nothing_and_comes_back_with_a_roll_back(versions: Api) -> None:
    for number in (1, 2):
        move(versions, number)
    assert versions.client.delete(url(versions), params={"reason": "unused"}).status_code == 204
    assert versions.client.delete(url(versions)).status_code == 404
    assert versions.client.get(f"/v1/registry/models/{versions.user}/quality/versions/prod").status_code == 404
    told = versions.client.get(url(versions)).json()
    assert (told["version"], told["moves"][0]["reason"]) == (None, "unused")
    assert back(versions)["version"] == 2
    assert back(versions)["version"] == 1
    assert versions.client.get(url(versions, "never")).status_code == 404
    assert versions.client.post(f"{url(versions, 'never')}/rollback").status_code == 404


def test_a_version_that_was_deleted_since_is_no_place_to_go_back_to(versions: Api) -> None:
    move(versions, 1)
    move(versions, 2)
    assert versions.client.delete(f"/v1/registry/models/{versions.user}/quality/versions/1").status_code == 200
    refused = back(versions)["error"]
    assert refused["code"] == "version_deleted" and "quality@1" in refused["message"]
    assert meaning(versions) == 2


def test_a_deployment_keeps_its_version_when_the_alias_moves_and_whoever_moves_it_is_told(versions: Api) -> None:
    move(versions, 1)
    assert versions.client.put("/v1/deployments/served", json={"model": "quality@prod"}).status_code == 202
    assert versions.client.put("/v1/deployments/other", json={"model": "quality@3"}).status_code == 202
    assert move(versions, 2)["left_behind"] == ["served"]
    assert versions.client.get("/v1/deployments/served").json()["version"] == 1
    assert versions.client.put("/v1/deployments/served", json={"model": "quality@prod"}).json()["version"] == 2
    assert back(versions)["left_behind"] == ["served"]
    assert move(versions, 1)["left_behind"] == []


def test_who_move_an_alias_at_once_all_stand_in_its_history(versions: Api) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: move(versions, number % 3 + 1), range(8)))
    moves = versions.client.get(url(versions)).json()["moves"][::-1]
    assert [one["version_from"] for one in moves] == [None, *(one["version_to"] for one in moves[:-1])]


def test_an_alias_from_before_moves_were_written_down_goes_back_to_where_it_was(versions: Api) -> None:
    move(versions, 1)
    with versions.database.unit_of_work() as work:
        row = work.models.find(versions.reach(), Reference(name="quality"))
        assert row is not None
        for old in work.aliases.moves(row.model_id, "prod"):
            work.session.delete(old)
    assert versions.client.get(url(versions)).json() == {
        **{"object": "model.alias.history", "alias": "prod", "version": 1, "moves": []}
    }
    assert back(versions)["error"]["code"] == "nothing_before"
    move(versions, 3)
    assert back(versions)["version"] == 1


def test_no_alias_moves_onto_an_unverified_version_unless_it_is_forced_which_its_history_keeps(versions: Api) -> None:
    broken = Verification(
        state=VerificationState.unverified, cause=Cause.rope, engine="llama.cpp", message="positions."
    )
    file = ManifestFile(path="model.gguf", bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", task="text-generation", files=(file,), verification=broken)
    with versions.database.unit_of_work() as work:
        work.models.add_version(versions.user_id(), "quality", manifest=manifest, prefix="artifacts/broken")
    shown = versions.client.get(f"/v1/registry/models/{versions.user}/quality/versions/4").json()
    assert (shown["verification_state"], shown["verification_cause"]) == ("unverified", "rope")
    move(versions, 3)
    refused = versions.client.put(url(versions), json={"version": 4})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "unverified")
    assert "(rope)" in refused.json()["error"]["message"] and "--force" in refused.json()["error"]["message"]
    assert meaning(versions) == 3
    assert versions.client.put(url(versions), json={"version": 4, "force": True}).status_code == 200
    move(versions, 1)
    assert back(versions)["error"]["code"] == "unverified", "a roll-back is a move too"
    assert back(versions, force=True)["version"] == 4
    moves = versions.client.get(url(versions)).json()["moves"]
    assert [(one["kind"], one["version_to"], one["forced"]) for one in moves] == [
        ("rollback", 4, True),
        ("set", 1, False),
        ("set", 4, True),
        ("set", 3, False),
    ]

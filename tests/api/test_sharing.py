"""What everyone may read: models and data sets of others, and nothing that their owners keep to themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from jobspecs.manifest import Manifest, ManifestFile, ModelOrigin
from jobspecs.rights import Reach
from storage.database import UnitOfWork
from storage.tables import ModelVersionRow
from tests.api.conftest import HEADLINES, SPEC, Api, sha256


@contextmanager
def somebody(api: Api) -> Iterator[httpx.Client]:
    with api.as_user(api.new_user()) as client:
        yield client


def share(api: Api, visibility: str = "everyone") -> None:
    for path in (f"/v1/registry/models/{api.user}/tiny", "/v1/datasets/headlines"):
        answer = api.client.patch(path, json={"visibility": visibility})
        assert (answer.status_code, answer.json()["visibility"]) == (200, visibility)


def reads(owner: str) -> list[str]:
    """Every way to read the two."""
    model, data = f"/v1/registry/models/{owner}/tiny", f"/v1/datasets/{owner}/headlines"
    return [
        *(
            model,
            f"{model}/versions/latest",
            f"{model}/versions/1/files/config.json?redirect=false",
            f"{model}/aliases/prod",
        ),
        *(data, f"{data}/versions/1", f"{data}/versions/1/file?redirect=false", f"{data}/versions/1/preview"),
    ]


def test_what_is_shared_is_read_by_everyone_until_it_is_private_again(ready: Api) -> None:
    assert ready.client.put(f"/v1/registry/models/{ready.user}/tiny/aliases/prod", json={"version": 1}).is_success
    with somebody(ready) as other:
        assert {other.get(path).status_code for path in reads(ready.user)} == {404}
        share(ready)
        answers = {path: other.get(path) for path in reads(ready.user)}
        assert {answer.status_code for answer in answers.values()} == {200}
        assert answers[f"/v1/datasets/{ready.user}/headlines/versions/1/file?redirect=false"].text == HEADLINES
        repository = other.get(f"/hf/api/models/{ready.user}/tiny")
        assert (repository.status_code, repository.json()["private"]) == (200, False)
        share(ready, "private")
        assert {other.get(path).status_code for path in reads(ready.user)} == {404}


def test_lists_have_ones_own_and_what_others_share_when_asked_for_it(ready: Api) -> None:
    share(ready)
    with somebody(ready) as other:
        for path in ("/v1/registry/models", "/v1/datasets"):
            assert other.get(path).json()["data"] == []
            shared = other.get(path, params={"shared": "true"}).json()["data"]
            mine = [item for item in shared if item["owner"] == ready.user]
            assert [(item["version"], item["visibility"]) for item in mine] == [(1, "everyone")]
        assert other.get("/v1/registry/models/me/tiny").status_code == 404


def test_only_the_owner_changes_what_is_shared(ready: Api) -> None:
    share(ready)
    model, data = f"/v1/registry/models/{ready.user}/tiny", f"/v1/datasets/{ready.user}/headlines"
    with somebody(ready) as other:
        refused = [
            other.patch(model, json={"visibility": "private"}),
            other.put(f"{model}/aliases/prod", json={"version": 1}),
            other.delete(model),
            other.delete(f"{model}/versions/1"),
            other.patch(data, json={"visibility": "private"}),
            other.delete(data),
        ]
        for answer in refused:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_yours")
            assert f"is {ready.user}'s, who alone can change it" in answer.json()["error"]["message"]
        pushed = other.put(data, params={"file_name": "a.csv"}, content=b"headline,quality\na,good\n")
        assert pushed.status_code == 404
    share(ready, "private")
    with somebody(ready) as other:
        assert other.delete(model).status_code == 404, "what is private does not exist"


def test_a_job_reads_what_others_share_which_stays_as_long_as_it_does(ready: Api) -> None:
    spec = {**SPEC, "model": f"{ready.user}/tiny@1", "dataset": f"{ready.user}/headlines@1"}
    with somebody(ready) as other:
        for field in ("model", "dataset"):
            refused = other.post("/v1/jobs", json=spec)
            assert refused.status_code == 422, field
        share(ready)
        job = other.post("/v1/jobs", json=spec)
        assert job.status_code == 201, job.text
        name = other.get("/v1/users/me").json()["name"]
        assert job.json()["inputs"]["model"] == f"{ready.user}/tiny@1"
        share(ready, "private")
        for path in (f"/v1/registry/models/{ready.user}/tiny", "/v1/datasets/headlines"):
            message = ready.client.delete(path).json()["error"]["message"]
            assert f"a job of {name} reads it. Ask {name}" in message and job.json()["id"] not in message
        used = ready.admin.delete(f"/v1/users/{ready.user}", params={"delete_things": True})
        assert used.status_code == 409 and f"{ready.user}'s model tiny is in use" in used.json()["error"]["message"]
        assert ready.client.get("/v1/users/me").status_code == 200, "nothing was changed"
        assert other.post(f"/v1/jobs/{job.json()['id']}/cancel").status_code == 200
    assert ready.client.delete("/v1/datasets/headlines").status_code == 200


def test_somebodys_shared_model_is_deployed_under_a_name_of_ones_own(api: Api) -> None:
    with api.database.unit_of_work() as work:
        version = add(work, api, "quality")
        work.models.change(version.model, visibility="everyone")
    with somebody(api) as other:
        name = other.get("/v1/users/me").json()["name"]
        answer = other.put("/v1/deployments/served", json={"model": f"{api.user}/quality"})
        assert (answer.status_code, answer.json()["model"]) == (202, f"{api.user}/quality@1")
        refused = api.client.delete(f"/v1/registry/models/{api.user}/quality")
        assert f"a deployment of {name} serves it" in refused.json()["error"]["message"]
        assert "served " not in refused.json()["error"]["message"]


@pytest.mark.parametrize("base_shared", [True, False])
def test_an_adapter_of_another_is_deployed_where_its_base_can_be_read_too(api: Api, base_shared: bool) -> None:
    with api.database.unit_of_work() as work:
        base = add(work, api, "base", content="base")
        adapter = add(work, api, "adapter", base=ModelOrigin(reference=f"{api.user}/base@1", digest=base.digest))
        work.models.change(adapter.model, visibility="everyone")
        if base_shared:
            work.models.change(base.model, visibility="everyone")
    with somebody(api) as other:
        answer = other.put("/v1/deployments/served", json={"model": f"{api.user}/adapter@1"})
        assert answer.status_code == (202 if base_shared else 422), answer.text
        if not base_shared:
            assert "no model with its digest" in answer.json()["error"]["message"]


def test_a_shared_base_is_kept_for_the_adapters_of_others_who_have_no_other_one(api: Api) -> None:
    with somebody(api) as other, api.database.unit_of_work() as work:
        mine = add(work, api, "base", content="base")
        origin = ModelOrigin(reference=f"{api.user}/base@1", digest=mine.digest)
        taker = work.users.ensure(other.get("/v1/users/me").json()["name"])
        adapter = add(work, api, "adapter", base=origin, owner_id=taker.id)
        assert work.removal.uses_of_models([mine]) == [], "its owner could not read it anyway"
        work.models.change(mine.model, visibility="everyone")
        (use,) = work.removal.uses_of_models([mine])
        assert (use.kind, use.name, use.owner) == ("adapter", "adapter@1", taker.name)
        copy = add(work, api, "copy", content="base", owner_id=taker.id)
        assert work.removal.uses_of_models([mine]) == [], "there is one of its owner's own"
        found = work.models.find_by_digest(Reach.of(taker.id).with_shared, mine.digest)
        assert found is not None and found.id == copy.id, "one's own comes first"
        assert [use.kind for use in work.removal.uses_of_models([copy])] == []
        assert adapter.digest != mine.digest


def add(
    work: UnitOfWork, api: Api, name: str, *, content: str = "", base: ModelOrigin | None = None, owner_id: Any = None
) -> ModelVersionRow:
    """A classifier without files in the store; equal content, equal digest, among those of one test."""
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(f"{api.user} {content or name}".encode()))
    manifest = Manifest(artifact="model", task="text-classification", files=(file,), base=base)
    owner_id = owner_id or work.users.ensure(api.user).id
    return work.models.add_version(owner_id, name, manifest=manifest, prefix=f"artifacts/{api.user}-{name}")

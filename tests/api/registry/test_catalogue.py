"""Tags, description, licence, archive, search and lineage."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobspecs.frozen import FrozenHubModel, FrozenInputs
from jobspecs.lineage import Lineage
from jobspecs.manifest import Manifest, ManifestFile, ModelOrigin
from tests.api.conftest import Api, sha256

MODELS = "/v1/registry/models"


def add(api: Api, name: str, task: str = "text-classification", **known: Any) -> None:
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256="0" * 64)
    manifest = Manifest(artifact="model", task=task, files=(file,))
    owner_id = api.user_id()
    with api.database.unit_of_work() as work:
        work.models.add_version(owner_id, name, manifest=manifest, prefix=f"artifacts/{uuid4()}", **known)


def found(api: Api, **wish: Any) -> list[str]:
    answer = api.client.get(MODELS, params=wish)
    assert answer.status_code == 200, answer.text
    return [f"{item['name']}@{item['version']}" for item in answer.json()["data"]]


def change(api: Api, path: str, **body: Any) -> Any:
    answer = api.client.patch(f"{MODELS}/{api.user}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def trained_from(repository: str) -> Lineage:
    base = FrozenHubModel(repository=repository, revision="a" * 40)
    return Lineage.of_job("train-classifier", {"name": "job"}, FrozenInputs(model=base))


def test_a_search_finds_by_words_task_tag_base_and_licence_together(api: Api) -> None:
    add(api, "headlines", lineage=trained_from("org/mini"), license="Apache-2.0")
    add(api, "vectors", "sentence-similarity", lineage=trained_from("org/mini-large"))
    change(api, "headlines", description="Is it clickbait? 100 %_sure", tags_added=["german", "news"])
    change(api, "vectors", tags_added=["german"], license="mit")
    assert found(api) == ["headlines@1", "vectors@1"]
    assert found(api, q="CLICKBAIT news") == found(api, q="0 %_s") == ["headlines@1"]
    assert found(api, q="clickbait vectors") == []
    assert found(api, task="sentence-similarity") == ["vectors@1"]
    assert found(api, tag=["german", "news"]) == ["headlines@1"]
    assert found(api, tag="german", license="MIT") == ["vectors@1"]
    assert found(api, license="apache-2.0") == ["headlines@1"]
    for base in ("hub:org/mini", "mini", f"hub:org/mini@{'a' * 40}"):
        assert found(api, base=base) == ["headlines@1"], base
    assert found(api, base="min_") == []
    assert api.client.get(MODELS, params={"tags": "german"}).status_code == 422


def test_what_is_said_of_a_model_changes_in_parts_and_null_takes_it_back(api: Api) -> None:
    add(api, "quality", license="cc-by-4.0")
    said = change(api, "quality", tags_added=["b", "a"], description="One.", license="mit")
    assert (said["tags"], said["description"], said["license"]) == (["a", "b"], "One.", "mit")
    assert said["versions"][0]["license"] == "mit"
    said = change(api, "quality", tags_added=["c"], tags_removed=["a"], license=None)
    assert (said["tags"], said["description"], said["license"]) == (["b", "c"], "One.", None)
    assert said["versions"][0]["license"] == "cc-by-4.0", "that of its base again"
    for wrong in ({"tags_added": ["no tag"]}, {"tags_added": [f"t{n}" for n in range(63)]}, {"colour": "red"}):
        assert api.client.patch(f"{MODELS}/{api.user}/quality", json=wrong).status_code == 422, wrong


def test_an_archived_version_is_passed_over_but_for_its_number_and_aliases(api: Api) -> None:
    for _ in range(2):
        add(api, "quality")
    assert api.client.put(f"{MODELS}/{api.user}/quality/aliases/prod", json={"version": 2}).status_code == 200
    assert change(api, "quality/versions/2", archived=True)["archived"]
    assert found(api) == ["quality@1"] and found(api, archived=True) == ["quality@2"]
    versions = {
        name: api.client.get(f"{MODELS}/{api.user}/quality/versions/{name}") for name in ("latest", "2", "prod")
    }
    assert [answer.json()["version"] for answer in versions.values()] == [1, 2, 2]
    assert api.client.put("/v1/deployments/served", json={"model": "quality"}).json()["version"] == 1
    assert change(api, "quality", archived=True)["versions"][1]["archived"], "all of them"
    assert found(api) == []
    assert api.client.get(f"{MODELS}/{api.user}/quality/versions/latest").status_code == 404
    assert api.client.put("/v1/deployments/served", json={"model": "quality@2"}).json()["version"] == 2
    change(api, "quality", archived=False)
    assert found(api) == ["quality@2"]


@pytest.mark.parametrize(
    ("front", "license"),
    [("---\nlanguage: de\nlicense: apache-2.0\n---\n# Card", "apache-2.0"), ("# Card\n\nlicense: mit\n", None)],
)
def test_an_imported_model_has_the_licence_that_its_card_names(api: Api, front: str, license: str | None) -> None:
    assert api.import_model(files={"README.md": front.encode()})["license"] == license


def test_a_trained_version_has_the_licence_of_what_it_began_with(api: Api) -> None:
    add(api, "base", license="apache-2.0")
    with api.database.unit_of_work() as work:
        base = work.models.list_versions(api.reach())[0]
        work.models.change(base.model, license="mit")
        from_hub = FrozenHubModel(repository="org/mini", revision="a" * 40, license="cc0-1.0")
        assert work.models.license_of(from_hub) == "cc0-1.0"
        assert work.models.license_of(None) is None
        assert base.license_known == "mit"


def test_lineage_names_data_models_children_and_deployments_also_those_that_are_gone(ready: Api) -> None:
    job = ready.submit()
    with ready.database.unit_of_work() as work:
        # What other tests have shared may have the same files, and would stand for the model that goes.
        work.session.execute(text("UPDATE models SET visibility = 'private'"))
        row = work.jobs.get(UUID(job["id"]))
        assert row is not None
        made = Lineage.of_job(row.kind, row.spec, FrozenInputs.model_validate(row.inputs))
        manifest = Manifest(
            artifact="model",
            task="text-classification",
            versions={"eigenwerk": "0.1.0"},
            files=(ManifestFile(path="w", bytes=1, sha256=sha256(ready.user.encode())),),
        )
        child = work.models.add_version(
            row.owner_id, "made", manifest=manifest, prefix=f"artifacts/{row.id}", lineage=made
        )
        base = ModelOrigin(reference=f"{ready.user}/made@1", digest=child.digest)
        adapter = Manifest(artifact="model", files=(), base=base)
        work.models.add_version(row.owner_id, "adapter", manifest=adapter, prefix=f"artifacts/{row.id}-2")
    assert ready.client.put("/v1/deployments/served", json={"model": "made"}).status_code == 202
    tiny, told = (
        ready.client.get(f"{MODELS}/{ready.user}/{name}/versions/1/lineage").json() for name in ("tiny", "made")
    )
    assert [(one["reference"], one["role"]) for one in tiny["children"]] == [(f"{ready.user}/made@1", "model")]
    assert [one["reference"] for one in tiny["children"][0]["children"]] == [f"{ready.user}/adapter@1"]
    assert (told["kind"], told["spec"]["label"], told["code"]) == (
        "train-classifier",
        "quality",
        {"eigenwerk": "0.1.0"},
    )
    assert [(one["reference"], one["standing"], one["now"]) for one in told["parents"]] == [
        (f"{ready.user}/tiny@1", "here", f"{ready.user}/tiny@1")
    ]
    assert [(one["role"], one["standing"]) for one in told["datasets"]] == [("dataset", "here")]
    assert told["deployments"] == [{"name": "served", "state": "pending"}]
    assert ready.client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    for path in (f"{MODELS}/{ready.user}/tiny", "/v1/datasets/headlines", f"/v1/jobs/{job['id']}"):
        assert ready.client.delete(path).status_code == 200, path
    later = ready.client.get(f"{MODELS}/{ready.user}/made/versions/1/lineage").json()
    assert [(one["digest"], one["standing"]) for one in later["parents"]] == [(tiny["digest"], "gone")]
    assert [one["standing"] for one in later["datasets"]] == ["gone"]
    assert (later["kind"], later["spec"]) == (told["kind"], told["spec"])

"""The registry read as a hub, with the installed huggingface_hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.api.conftest import HEADLINES, Api, RunApi, safetensors, sha256

FILES = {
    "1_Pooling/config.json": b'{"pooling": "mean"}',
    "README.md": b"one\n",
}


def hub(api: Api) -> HfApi:
    token = api.client.headers["Authorization"].removeprefix("Bearer ")
    return HfApi(endpoint=f"{api.url}/hf", token=token)


@pytest.fixture(scope="module")
def api(module_api: Api) -> Api:
    return module_api


@pytest.fixture(scope="module")
def model(api: Api) -> str:
    """A model of two versions, of which `prod` is the first."""
    api.import_model(files=FILES)
    api.import_model(files={**FILES, "README.md": b"two\n"})
    answer = api.client.put(f"/v1/registry/models/{api.user}/tiny/aliases/prod", json={"version": 1})
    assert answer.status_code == 200
    return f"{api.user}/tiny"


def test_a_snapshot_has_the_files_of_the_newest_version(api: Api, model: str, tmp_path: Path) -> None:
    folder = Path(hub(api).snapshot_download(model, cache_dir=tmp_path))
    assert (folder / "README.md").read_bytes() == b"two\n"
    assert (folder / "1_Pooling/config.json").read_bytes() == FILES["1_Pooling/config.json"]
    assert (folder / "model.safetensors").read_bytes() == safetensors()
    assert not (folder / "manifest.json").exists()
    # The blob is called as its sum: a second version shares it.
    assert (folder / "model.safetensors").resolve().name == sha256(safetensors())


@pytest.mark.parametrize(
    ("revision", "text"), [("1", b"one\n"), ("prod", b"one\n"), ("main", b"two\n"), ("2", b"two\n")]
)
def test_numbers_aliases_and_main_are_revisions(
    api: Api, model: str, tmp_path: Path, revision: str, text: bytes
) -> None:
    path = hub(api).hf_hub_download(model, "README.md", revision=revision, cache_dir=tmp_path)
    assert Path(path).read_bytes() == text
    # And so is the commit that they mean: for ever.
    commit = hub(api).model_info(model, revision=revision).sha
    assert commit == Path(path).parent.name
    assert hub(api).model_info(model, revision=commit).sha == commit


def test_refs_name_the_aliases_as_branches_and_the_versions_as_tags(api: Api, model: str) -> None:
    refs = hub(api).list_repo_refs(model)
    commits = {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
    assert set(commits) == {"main", "prod", "1", "2"}
    assert (commits["main"], commits["prod"]) == (commits["2"], commits["1"])
    assert [commit.commit_id for commit in hub(api).list_repo_commits(model)] == [commits["2"], commits["1"]]


def test_a_tree_has_folders_pages_and_sums(api: Api, model: str) -> None:
    entries = {entry.path: entry for entry in hub(api).list_repo_tree(model, recursive=True)}
    assert set(entries) == {"1_Pooling", "1_Pooling/config.json", "README.md", "config.json", "model.safetensors"}
    assert entries["model.safetensors"].lfs.sha256 == sha256(safetensors())
    top = [entry.path for entry in hub(api).list_repo_tree(model)]
    assert top == ["1_Pooling", "README.md", "config.json", "model.safetensors"]
    assert [entry.path for entry in hub(api).list_repo_tree(model, "1_Pooling")] == ["1_Pooling/config.json"]
    url, seen = f"/hf/api/models/{model}/tree/main?recursive=true&limit=2", []
    while url:
        page = api.client.get(url)
        seen += [entry["path"] for entry in page.json()]
        url = page.links.get("next", {}).get("url", "")
    assert seen == sorted(entries)
    found = hub(api).get_paths_info(model, ["1_Pooling", "README.md", "nothing"], expand=True)
    assert [entry.path for entry in found] == ["1_Pooling", "README.md"]
    siblings = hub(api).model_info(model, files_metadata=True).siblings
    assert {file.rfilename: file.size for file in siblings}["README.md"] == 4


def test_a_head_says_all_that_clients_need(api: Api, model: str) -> None:
    url = f"/hf/{model}/resolve/prod/model.safetensors"
    head = api.client.head(url)
    assert head.headers["X-Repo-Commit"] == hub(api).model_info(model, revision="1").sha
    assert head.headers["ETag"] == head.headers["X-Linked-Etag"] == f'"{sha256(safetensors())}"'
    assert int(head.headers["Content-Length"]) == int(head.headers["X-Linked-Size"]) == len(safetensors())
    part = api.client.get(url, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, safetensors()[2:6])
    assert part.headers["X-Repo-Commit"] == head.headers["X-Repo-Commit"]


def test_where_clients_reach_the_object_store_they_are_sent_there(run_api: RunApi, tmp_path: Path, api: Api) -> None:
    with run_api(s3_public_endpoint=api.settings.storage.s3_endpoint) as reachable:
        reachable.import_model(files=FILES)
        model = f"{reachable.user}/tiny"
        answer = reachable.client.get(f"/hf/{model}/resolve/main/model.safetensors")
        assert (answer.status_code, int(answer.headers["X-Linked-Size"])) == (302, len(safetensors()))
        path = hub(reachable).hf_hub_download(model, "model.safetensors", cache_dir=tmp_path)
        assert Path(path).read_bytes() == safetensors()


def test_models_are_listed_searched_and_paged(api: Api, model: str) -> None:
    api.import_model("another")
    every = list(hub(api).list_models(author=api.user))
    assert [found.id for found in every] == [f"{api.user}/another", model]
    assert [found.id for found in hub(api).list_models(author=api.user, search="tin")] == [model]
    assert [found.id for found in hub(api).list_models(author=api.user, limit=1)] == [f"{api.user}/another"]
    # Pages, as clients follow them; each asks for its own rows and no others.
    page = api.client.get("/hf/api/models", params={"author": api.user, "limit": 1})
    assert [found["id"] for found in page.json()] == [f"{api.user}/another"]
    page = api.client.get(page.links["next"]["url"])
    assert ([found["id"] for found in page.json()], "next" in page.links) == ([model], False)
    api.import_model("another", files={"config.json": b'{"model_type": "bert", "a": 2}'})
    (found,) = hub(api).list_models(author=api.user, search="ANOTHER")
    assert found.sha == hub(api).model_info(f"{api.user}/another").sha
    assert api.client.get("/hf/api/models?search=%00").json() == []
    # What no name without a version means any more is not there to be listed.
    assert api.client.patch(f"/v1/registry/models/{api.user}/another", json={"archived": True}).status_code == 200
    assert [found.id for found in hub(api).list_models(author=api.user)] == [model]
    assert api.client.patch(f"/v1/registry/models/{api.user}/another", json={"archived": False}).status_code == 200
    assert hub(api).whoami()["name"] == api.user


def test_refusals_are_what_clients_expect(api: Api, model: str, tmp_path: Path) -> None:
    mine = hub(api)
    with pytest.raises(RevisionNotFoundError):
        mine.hf_hub_download(model, "README.md", revision="nothing", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        mine.model_info(model, revision="0" * 40)
    with pytest.raises(EntryNotFoundError):
        mine.hf_hub_download(model, "added_tokens.json", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        mine.model_info(f"{api.user}/nothing")
    # A name without an owner, as the first models of the hub have.
    with pytest.raises(RepositoryNotFoundError):
        mine.hf_hub_download("bert-base-uncased", "config.json", cache_dir=tmp_path)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=mine.endpoint, token="ew_" + "b" * 43).whoami()


def test_what_is_private_to_others_does_not_exist(api: Api, model: str, tmp_path: Path) -> None:
    stranger = HfApi(endpoint=f"{api.url}/hf", token=api.new_user())
    for ask in (
        lambda: stranger.model_info(model),
        lambda: list(stranger.list_repo_tree(model)),
        lambda: stranger.hf_hub_download(model, "README.md", cache_dir=tmp_path),
        lambda: stranger.auth_check(model),
        lambda: stranger.list_repo_refs(model),
    ):
        with pytest.raises(RepositoryNotFoundError):
            ask()
    assert list(stranger.list_models(author=api.user)) == []
    nobody = api.client.get(f"/hf/{model}/resolve/main/README.md", headers={"Authorization": ""})
    assert nobody.status_code == 401


@pytest.mark.parametrize(
    "path", ["../tiny/config.json", "%2e%2e/secret", "a//b", "model.safetensors/", "manifest.json"]
)
def test_paths_lead_nowhere_else(api: Api, model: str, path: str) -> None:
    answer = api.client.get(f"/hf/{model}/resolve/main/{path}")
    assert answer.status_code == 404
    assert answer.headers["X-Error-Code"] in ("EntryNotFound", "RepoNotFound", "RevisionNotFound")


def test_a_data_set_has_its_file_and_a_card_that_says_how_to_read_it(api: Api, tmp_path: Path) -> None:
    api.push(content=HEADLINES.replace(",", ";"), file_name="headlines.csv")
    folder = Path(
        snapshot_download(
            f"{api.user}/headlines",
            repo_type="dataset",
            endpoint=f"{api.url}/hf",
            token=hub(api).token,
            cache_dir=tmp_path,
        )
    )
    assert (folder / "headlines.csv").read_text() == HEADLINES.replace(",", ";")
    card = (folder / "README.md").read_text().splitlines()
    assert json.loads(card[1].removeprefix("configs: "))[0]["sep"] == ";"
    assert hub(api).dataset_info(f"{api.user}/headlines", revision="1").sha == folder.name
    assert [found.id for found in hub(api).list_datasets(author=api.user)] == [f"{api.user}/headlines"]

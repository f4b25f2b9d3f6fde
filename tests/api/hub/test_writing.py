"""Pushes through the hub's protocol: what becomes a version, and what changes nothing."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd
from sqlalchemy import text

from api.hub.commits.closing import close_quiet
from api.parts import Parts
from jobspecs.references import parse_reference
from tests.api.conftest import HEADLINES, Api, safetensors, sha256
from tests.api.hub.pushing import CONFIG, batch, commit, hub, made, upload, versions, weights


@pytest.fixture(scope="module")
def api(module_api: Api) -> Api:
    return module_api


def test_a_pushed_folder_is_a_version_of_the_registry(api: Api, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"architectures": ["BertForSequenceClassification"]}')
    (tmp_path / "model.safetensors").write_bytes(weights(1))
    (tmp_path / "training_args.bin").write_bytes(b"\x80\x04a pickle that trainers leave")
    made(api, "folder")
    done = hub(api).upload_folder(repo_id=f"{api.user}/folder", folder_path=tmp_path)
    version = api.client.get(f"/v1/registry/models/{api.user}/folder/versions/1").json()
    assert version["task"] == "text-classification"
    files = {file["path"]: file["sha256"] for file in version["manifest"]["files"]}
    assert files["model.safetensors"] == sha256(weights(1))
    assert set(files) == {"config.json", "model.safetensors"}
    assert hub(api).model_info(f"{api.user}/folder").sha == done.oid
    # The same again is the same version.
    assert hub(api).upload_folder(repo_id=f"{api.user}/folder", folder_path=tmp_path).oid == done.oid
    assert versions(api, "folder") == [1]


def test_several_commits_of_one_push_are_one_version(api: Api) -> None:
    repository = made(api, "several")
    additions = [
        CommitOperationAdd("config.json", CONFIG),
        CommitOperationAdd("model.safetensors", weights(2)),
        CommitOperationAdd("README.md", b"read me"),
    ]
    client = hub(api)
    client.preupload_lfs_files(repository, additions=additions)
    for addition in additions:
        assert versions(api, "several") == []
        done = client.create_commit(repository, [addition], commit_message="a part")
    assert versions(api, "several") == [1]
    assert client.model_info(repository).sha == done.oid
    assert set(client.list_repo_files(repository)) == {"config.json", "model.safetensors", "README.md"}


def test_a_push_without_weights_waits_for_them_unseen(api: Api) -> None:
    repository = made(api, "waits")
    assert commit(api.client, repository, {"config.json": CONFIG}).status_code == 200
    assert (versions(api, "waits"), hub(api).list_repo_files(repository)) == ([], [])
    upload(api.client, repository, weights(3))
    assert commit(api.client, repository, large={"model.safetensors": weights(3)}).status_code == 200
    assert versions(api, "waits") == [1]


def test_a_version_has_all_parts_that_its_index_names(api: Api) -> None:
    repository = made(api, "parts")
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    for number in (1, 2):
        assert versions(api, "parts") == []
        name = f"model-{number}.safetensors"
        upload(api.client, repository, weights(number))
        small = {"config.json": CONFIG, "model.safetensors.index.json": index}
        assert commit(api.client, repository, small, {name: weights(number)}).status_code == 200
    assert versions(api, "parts") == [1]


def test_what_its_client_said_it_would_send_and_never_did_holds_a_push_up_for_a_minute_only(api: Api) -> None:
    repository = made(api, "quiet")
    files = [{"path": "config.json", "size": 10}, {"path": "README.md", "size": 10}]
    answer = api.client.post(f"/hf/api/models/{repository}/preupload/main", json={"files": files})
    assert [file["uploadMode"] for file in answer.json()["files"]] == ["regular", "regular"]
    upload(api.client, repository, weights(4))
    small, large = {"config.json": CONFIG}, {"model.safetensors": weights(4)}
    assert commit(api.client, repository, small, large).status_code == 200
    parts = Parts.make(api.settings)
    asyncio.run(close_quiet(parts))
    assert versions(api, "quiet") == []
    with api.database.unit_of_work() as work:
        work.session.execute(text("UPDATE hub_pushes SET touched_at = touched_at - interval '61 s'"))
    asyncio.run(_closed(parts))
    assert versions(api, "quiet") == [1]


async def _closed(parts: Parts) -> None:
    await close_quiet(parts)
    await parts.close()


def test_a_commit_that_names_what_was_never_sent_changes_nothing(api: Api) -> None:
    repository = made(api, "never")
    refused = commit(api.client, repository, {"config.json": CONFIG}, {"model.safetensors": weights(5)})
    assert refused.status_code == 422
    assert "never sent" in refused.headers["X-Error-Message"]
    upload(api.client, repository, weights(5))
    assert commit(api.client, repository, large={"model.safetensors": weights(5)}).status_code == 200
    # Had the first commit left its configuration, this would be a version.
    assert versions(api, "never") == []


def test_naming_a_sum_gives_nobody_what_another_owner_has(api: Api) -> None:
    repository = made(api, "owned")
    upload(api.client, repository, weights(6))
    assert commit(api.client, repository, {"config.json": CONFIG}, {"model.safetensors": weights(6)}).status_code == 200
    with api.as_user(api.new_user(name="thief")) as thief:
        assert thief.post("/hf/api/repos/create", json={"name": "owned"}).status_code == 200
        (told,) = batch(thief, "thief/owned", weights(6))
        assert "upload" in told["actions"]
        refused = commit(thief, "thief/owned", {"config.json": CONFIG}, {"model.safetensors": weights(6)})
        assert refused.status_code == 422
        # Nor do they push to a name of somebody else's.
        assert commit(thief, repository, {"config.json": b"{}"}).headers["X-Error-Code"] == "RepoNotFound"
    # Who has it isn't asked to send it again.
    assert batch(api.client, repository, weights(6)) == [{"oid": sha256(weights(6)), "size": len(weights(6))}]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("pytorch_model.bin", b"\x80\x04"),
        ("modeling.py", b"print()"),
        ("../config.json", b"{}"),
        ("a/../config.json", b"{}"),
        ("/config.json", b"{}"),
        ("manifest.json", b"{}"),
        ("config.json", b'{"auto_map": {"AutoModel": "evil.Evil"}}'),
        ("vocab.txt", b"\x80\x04a pickle"),
    ],
)
def test_what_an_import_refuses_is_refused_here(api: Api, path: str, content: bytes) -> None:
    repository = f"{api.user}/refusing"
    api.client.post("/hf/api/repos/create", json={"name": "refusing"})
    upload(api.client, repository, content)
    for answer in (
        commit(api.client, repository, {path: content}),
        commit(api.client, repository, {}, {path: content}),
    ):
        assert answer.status_code == 422, answer.text
    assert hub(api).list_repo_files(repository) == []


def test_a_name_that_is_a_file_and_a_folder_makes_no_version(api: Api) -> None:
    repository = made(api, "clash")
    upload(api.client, repository, weights(3))
    files = {"config.json": CONFIG, "config.json/x.json": b"{}"}
    answer = commit(api.client, repository, files, {"model.safetensors": weights(3)})
    assert (answer.status_code, "can't be a folder too" in answer.text) == (422, True)
    assert versions(api, "clash") == []


def test_weights_that_are_none_are_refused_though_only_their_beginning_is_read(api: Api) -> None:
    repository = made(api, "weights")
    for content in (weights(7)[:-4], b"\xff" * 100):
        upload(api.client, repository, content)
        assert commit(api.client, repository, {}, {"model.safetensors": content}).status_code == 422


def test_of_two_pushes_at_once_both_are_whole(api: Api) -> None:
    repository = made(api, "twice")
    contents = {seed: {"config.json": CONFIG, "model.safetensors": weights(seed)} for seed in (11, 12)}

    def push(seed: int) -> str:
        additions = [CommitOperationAdd(path, content) for path, content in contents[seed].items()]
        oid: str = hub(api).create_commit(repository, additions, commit_message="x").oid
        return oid

    with ThreadPoolExecutor(2) as pool:
        commits = dict(zip(contents, pool.map(push, contents), strict=True))
    assert sorted(versions(api, "twice")) == [1, 2]
    for seed, oid in commits.items():
        got = api.client.get(f"/hf/{repository}/resolve/{oid}/model.safetensors")
        assert got.content == weights(seed)


def test_a_push_that_is_half_done_is_not_mixed_with_another(api: Api) -> None:
    repository = made(api, "mixed")
    assert commit(api.client, repository, {"config.json": CONFIG}).status_code == 200
    other = commit(api.client, repository, {"config.json": b"{}", "README.md": b"other"})
    assert (other.status_code, versions(api, "mixed")) == (409, [])
    upload(api.client, repository, weights(8))
    assert commit(api.client, repository, {}, {"model.safetensors": weights(8)}).status_code == 200
    assert set(hub(api).list_repo_files(repository)) == {"config.json", "model.safetensors"}


def test_a_commit_can_be_bound_to_the_newest(api: Api) -> None:
    repository = made(api, "bound")
    upload(api.client, repository, weights(9))
    first = commit(api.client, repository, {"config.json": CONFIG}, {"model.safetensors": weights(9)}).json()
    assert commit(api.client, repository, {"README.md": b"1"}, parent=first["commitOid"]).status_code == 200
    late = commit(api.client, repository, {"README.md": b"2"}, parent=first["commitOid"])
    assert (late.status_code, versions(api, "bound")) == (412, [2, 1])


def test_there_is_one_branch_and_no_pull_request(api: Api) -> None:
    repository = made(api, "branch")
    for path, status in (("commit/dev", 404), ("commit/main?create_pr=1", 400), ("preupload/dev", 404)):
        answer = api.client.post(f"/hf/api/models/{repository}/{path}", json={"files": []})
        assert answer.status_code == status, path


def test_an_adapter_is_pushed_with_its_base(api: Api) -> None:
    repository = made(api, "adapter")
    api.import_model("base")
    stated = f'{{"peft_type": "LORA", "base_model_name_or_path": "{api.user}/base", "revision": "1"}}'.encode()
    upload(api.client, repository, safetensors(9))
    large = {"adapter_model.safetensors": safetensors(9)}
    refused = commit(api.client, repository, {"adapter_config.json": stated.replace(b"/base", b"/none")}, large)
    assert (refused.status_code, versions(api, "adapter")) == (422, [])
    assert commit(api.client, repository, {"adapter_config.json": stated}, large).status_code == 200
    manifest = api.client.get(f"/v1/registry/models/{api.user}/adapter/versions/1").json()["manifest"]
    assert manifest["base"]["reference"] == f"{api.user}/base@1"


def test_parts_of_a_data_set_become_data_sets(api: Api) -> None:
    repository = made(api, "rows", "dataset")
    client = hub(api)
    additions = [
        CommitOperationAdd("train.csv", HEADLINES.encode()),
        CommitOperationAdd("data/test-00000-of-00001.csv", b"headline,quality\nOne,good\n"),
        CommitOperationAdd("README.md", b"---\nlicense: mit\n---\n"),
    ]
    client.create_commit(repository, additions, repo_type="dataset", commit_message="rows")
    for name, rows in (("rows", 20), ("rows-test", 1)):
        version = api.client.get(f"/v1/datasets/{name}/versions/1").json()
        assert (version["rows"], version["columns"]) == (rows, ["headline", "quality"])
    assert client.list_repo_files(repository, repo_type="dataset") == ["README.md", "train.csv"]


def test_several_files_of_one_part_are_pulled_as_they_were_pushed(api: Api, tmp_path: Path) -> None:
    repository = made(api, "shards", "dataset")
    client = hub(api)
    contents = {"a.csv": HEADLINES.encode(), "b.csv": b"headline,quality\nOne,good\n"}
    additions = [CommitOperationAdd(path, content) for path, content in contents.items()]
    client.create_commit(repository, additions, repo_type="dataset", commit_message="rows")
    assert api.client.get("/v1/datasets/shards/versions/1").json()["rows"] == 21
    folder = Path(client.snapshot_download(repository, repo_type="dataset", local_dir=tmp_path))
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == contents
    part = api.client.get(f"/hf/datasets/{repository}/resolve/1/b.csv", headers={"Range": "bytes=17-"})
    assert (part.status_code, part.content) == (206, b"One,good\n")


def test_rows_that_can_not_be_read_register_nothing(api: Api) -> None:
    repository = made(api, "unreadable", "dataset")
    contents = {"train.csv": HEADLINES.encode(), "test.parquet": b"no parquet"}
    for content in contents.values():
        upload(api.client, f"datasets/{repository}", content)
    assert commit(api.client, repository, {}, contents, kind="datasets").status_code == 422
    assert api.client.get("/v1/datasets/unreadable").status_code == 404
    refused = commit(api.client, repository, {"script.py": b"print()"}, kind="datasets")
    assert refused.status_code == 422


def test_a_deleted_repository_is_gone(api: Api) -> None:
    repository = made(api, "gone")
    assert api.client.post("/hf/api/repos/create", json={"name": "gone"}).status_code == 409
    hub(api).delete_repo(repository)
    assert not hub(api).repo_exists(repository)
    answer = httpx.request(
        "DELETE", f"{api.url}/hf/api/repos/delete", json={"name": "gone"}, headers=dict(api.client.headers)
    )
    assert answer.status_code == 404


def test_the_licence_that_a_pushed_card_names_is_the_versions(api: Api) -> None:
    card = b"---\nlicense: apache-2.0\ntags: [x]\n---\n# Licensed\n"
    repository = made(api, "licensed")
    upload(api.client, repository, weights(61))
    files = {"config.json": CONFIG, "README.md": card}
    assert commit(api.client, repository, files, {"model.safetensors": weights(61)}).status_code == 200
    with api.database.unit_of_work() as work:
        row = work.models.find(api.reach(), parse_reference("licensed"))
        assert row is not None
        assert row.license == "apache-2.0"
    rows = made(api, "licensed-rows", "dataset")
    table = b"text,label\na,x\nb,y\n"
    assert commit(api.client, rows, {"train.csv": table, "README.md": card}, kind="datasets").status_code == 200
    with api.database.unit_of_work() as work:
        found = work.datasets.find(api.reach(), parse_reference("licensed-rows"))
        assert found is not None
        assert found.license == "apache-2.0"

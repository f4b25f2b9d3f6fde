"""Content on its way to a commit: in one body, in parts, and as chunks; and who may send it."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from api.errors import ApiError
from api.hub.commits.commit_body import read_commit
from api.hub.transfers.uploads import PART_BYTES
from api.hub.transfers.xet_format import CHUNKS_MAX, FILES_MAX, BadXet, Term, Xorb, files_of_shard
from tests.api.conftest import Api, sha256
from tests.api.hub.pushing import CONFIG, batch, commit, made, shard, versions, weights, xorb

NAME = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def api(module_api: Api) -> Api:
    return module_api


@pytest.fixture(scope="module")
def repository(api: Api) -> str:
    return made(api, "uploads")


def put(href: str, content: bytes) -> httpx.Response:
    return httpx.put(href, content=content, trust_env=False, timeout=60)


def test_content_with_another_sum_is_refused(api: Api, repository: str) -> None:
    (told,) = batch(api.client, repository, b"meant")
    assert put(told["actions"]["upload"]["href"], b"other").status_code == 422
    assert "actions" in batch(api.client, repository, b"meant")[0]


def test_a_large_file_comes_in_parts_of_which_none_may_be_missing(api: Api, repository: str) -> None:
    content = os.urandom(PART_BYTES + 1000)
    (told,) = batch(api.client, repository, content)
    upload, verify = told["actions"]["upload"], told["actions"]["verify"]
    assert upload["header"]["chunk_size"] == str(PART_BYTES)
    parts = {"00001": content[:PART_BYTES], "00002": content[PART_BYTES:]}
    done = {"oid": sha256(content)}
    assert put(upload["header"]["00001"], parts["00001"]).headers["ETag"]
    assert httpx.post(upload["href"], json=done, trust_env=False).status_code == 409
    assert put(upload["header"]["00002"], b"other" * 200).status_code == 200
    assert httpx.post(upload["href"], json=done, trust_env=False).status_code == 422
    assert api.client.post(verify["href"], json=done).status_code == 404
    assert put(upload["header"]["00002"], parts["00002"]).status_code == 200
    # Asked twice, as after an answer that was lost.
    for _ in range(2):
        assert httpx.post(upload["href"], json=done, trust_env=False, timeout=60).status_code == 200
    assert api.client.post(verify["href"], json=done).status_code == 200
    assert batch(api.client, repository, content) == [{"oid": sha256(content), "size": len(content)}]


def test_a_grant_opens_the_uploads_of_its_owner_and_ends_with_its_token(api: Api, repository: str) -> None:
    mine = api.client.post("/v1/users/me/tokens", json={"scopes": ["write"]}).json()
    with api.as_user(mine["token"]) as client:
        (told,) = batch(client, repository, b"granted")
    href = told["actions"]["upload"]["href"]
    forged = href[:-4] + ("0000" if href[-4:] != "0000" else "1111")
    elsewhere = href.replace(f"/{api.user}/", "/admin/")
    for wrong in (forged, elsewhere, href.partition("?")[0]):
        assert put(wrong, b"granted").status_code == 401, wrong
    # It opens nothing else.
    grant = httpx.URL(href).params["grant"]
    other = httpx.get(f"{api.url}/v1/jobs", headers={"Authorization": f"Bearer {grant}"}, trust_env=False)
    assert other.status_code == 401
    assert api.client.delete(f"/v1/users/me/tokens/{mine['id']}").status_code == 204
    assert put(href, b"granted").status_code == 401


def test_a_file_is_put_together_from_chunks_that_its_owner_sent(api: Api, repository: str) -> None:
    content = weights(21)
    body = xorb(content[:100], content[100:], how=1)
    told = api.client.get(f"/hf/api/models/{repository}/xet-write-token/main").json()
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    terms = [(NAME, 0, 2)]
    with httpx.Client(base_url=told["casUrl"], headers=headers, trust_env=False, timeout=60) as cas:
        early = cas.post("/v1/shards", content=shard(content, terms))
        assert (early.status_code, "never was" in early.text) == (422, True)
        assert cas.post(f"/v1/xorbs/default/{NAME}", content=b"\0junk").status_code == 422
        assert cas.post(f"/v1/xorbs/default/{NAME}", content=body).json() == {"was_inserted": True}
        lying = cas.post("/v1/shards", content=shard(content, terms, sum_of=b"other"))
        assert lying.status_code == 422
        assert cas.post("/v1/shards", content=shard(content, [(NAME, 0, 3)])).status_code == 422
        assert cas.post("/v1/shards", content=shard(content, terms)).json() == {"result": 1}
        assert cas.get(f"/v1/chunks/default/{NAME}").status_code == 404
    assert commit(api.client, repository, {"config.json": CONFIG}, {"model.safetensors": content}).status_code == 200
    assert versions(api, "uploads") == [1]


def test_chunks_of_another_owner_are_not_there(api: Api, repository: str) -> None:
    content = weights(22)
    name = NAME[::-1]
    told = api.client.get(f"/hf/api/models/{repository}/xet-write-token/main").json()
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    sent = httpx.post(f"{told['casUrl']}/v1/xorbs/default/{name}", content=xorb(content), headers=headers)
    assert sent.status_code == 200
    with api.as_user(api.new_user(name="chunky")) as other:
        assert other.post("/hf/api/repos/create", json={"name": "x"}).status_code == 200
        told = other.get("/hf/api/models/chunky/x/xet-write-token/main").json()
        headers = {"Authorization": f"Bearer {told['accessToken']}"}
        answer = httpx.post(f"{told['casUrl']}/v1/shards", content=shard(content, [(name, 0, 1)]), headers=headers)
        assert answer.status_code == 422


def test_chunks_are_unpacked_as_clients_packed_them() -> None:
    content = bytes(range(256)) * 5 + b"abc"
    for how in (0, 1):
        packed = Xorb(xorb(content, b"second", how=how))
        assert b"".join(packed.unpacked(Term(NAME, 0, 2))) == content + b"second"
        assert packed.bytes_of(Term(NAME, 1, 2)) == 6
    grouped = b"".join(content[place::4] for place in range(4))
    body = bytearray(xorb(grouped, how=1))
    body[4] = 2
    assert b"".join(Xorb(bytes(body)).unpacked(Term(NAME, 0, 1))) == content


@pytest.mark.parametrize("cut", [1, 8, 40, 60, 100, 150])
def test_a_shard_that_is_cut_off_is_refused(cut: int) -> None:
    whole = shard(b"content", [(NAME, 0, 1)])
    assert files_of_shard(whole)[0].sha256 == sha256(b"content")
    with pytest.raises(BadXet):
        files_of_shard(whole[:cut])


def test_what_a_chunk_says_of_its_length_is_not_believed() -> None:
    body = bytearray(xorb(bytes(100_000), how=1))
    body[5:8] = (10).to_bytes(3, "little")
    with pytest.raises(BadXet):
        list(Xorb(bytes(body)).unpacked(Term(NAME, 0, 1)))
    with pytest.raises(BadXet):
        Xorb(xorb(b"x" * 100)[:50])
    many = bytearray(shard(b"content", [(NAME, 0, 1)]))
    many[48 + 36 : 48 + 40] = (2**31).to_bytes(4, "little")
    with pytest.raises(BadXet):
        files_of_shard(bytes(many))


def test_a_xorb_of_empty_chunks_is_refused_before_it_fills_the_memory() -> None:
    """80 MB of zeros were ten million chunks, 1.3 GB in the API."""
    assert Xorb(bytes(8 * CHUNKS_MAX)).bytes_of(Term(NAME, 0, CHUNKS_MAX)) == 0
    with pytest.raises(BadXet, match="more than 65,536 chunks"):
        Xorb(bytes(8 * CHUNKS_MAX + 8))


def test_a_shard_of_more_files_than_a_query_takes_is_refused(api: Api, repository: str) -> None:
    one = shard(b"content", [])[48:-48]
    with pytest.raises(BadXet, match="more than 10,000 files"):
        files_of_shard(bytes(48) + one * (FILES_MAX + 1) + b"\xff" * 48)
    # The same file again and again is put together once.
    told = api.client.get(f"/hf/api/models/{repository}/xet-write-token/main").json()
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    body = bytes(48) + shard(b"", [])[48:-48] * FILES_MAX + b"\xff" * 48
    assert httpx.post(f"{told['casUrl']}/v1/shards", content=body, headers=headers, timeout=20).status_code == 200


def test_a_question_that_would_be_told_a_million_addresses_is_refused(api: Api, repository: str) -> None:
    objects = [{"oid": f"{number:064x}", "size": 40 * 1024**3} for number in range(1000)]
    answer = api.client.post(f"/hf/{repository}.git/info/lfs/objects/batch", json={"objects": objects})
    assert answer.status_code == 413
    assert "Push fewer at once" in answer.json()["error"]


def test_an_operation_that_is_unknown_is_named(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text('{"key": "header", "value": {}}\n{"key": "copyFile", "value": {"srcPath": "a", "dstPath": "b"}}\n')
    with pytest.raises(ApiError, match="Line 2 of the commit: 'copyFile' is no operation that is known here"):
        read_commit(body)

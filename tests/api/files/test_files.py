"""/v1/files and /v1/uploads, driven by OpenAI's own client."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from jobspecs.openai_ids import key_of
from tests.api.conftest import Api, RunApi

CHATS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"How much is {n}?"}, {"role": "assistant", "content": "2"}]})
    + "\n"
    for n in range(6)
).encode()


def requests_file(*changes: dict[str, Any], count: int = 2) -> bytes:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
    lines: list[dict[str, Any]] = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(count)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, *({**lines[0], **one} for one in changes)])


@pytest.fixture
def client(api: Api) -> Iterator[Any]:
    token = api.client.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=token, max_retries=0) as client:
        yield client


def test_a_file_is_a_version_of_a_data_set(api: Api, client: Any) -> None:
    file = client.files.create(file=("train.jsonl", CHATS), purpose="fine-tune")
    assert (file.object, file.filename, file.bytes, file.status) == ("file", "train.jsonl", len(CHATS), "processed")
    assert file.dataset == f"{api.user}/file-train@1"
    version = api.client.get("/v1/datasets/file-train/versions/1").json()
    assert (version["file_id"], version["rows"], version["purpose"]) == (file.id, 6, "fine-tune")
    assert client.files.content(file.id).read() == CHATS
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id) == file
    pushed = api.push()
    assert client.files.retrieve(pushed["file_id"]).filename == "headlines.csv"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        client.files.retrieve(file.id)


def test_files_are_listed_page_by_page_and_by_purpose(client: Any) -> None:
    files = [client.files.create(file=(f"{n}.jsonl", CHATS), purpose="fine-tune").id for n in range(3)]
    batch = client.files.create(file=("ask.jsonl", requests_file()), purpose="batch").id
    page = client.files.list(limit=2)
    assert ([file.id for file in page.data], page.has_more) == ([batch, files[2]], True)
    assert [file.id for file in client.files.list(limit=2)] == [batch, *reversed(files)]
    assert [file.id for file in client.files.list(purpose="fine-tune", order="asc")] == files
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.list(after="file-x")
    assert refused.value.param == "after"


@pytest.mark.parametrize(
    ("name", "content", "purpose", "words"),
    [
        ("train.jsonl", b'{"a": 1}\nnothing\n', "fine-tune", "line 2 is not JSON"),
        ("train.jsonl", b"", "fine-tune", "no rows"),
        ("train.exe", b"x", "fine-tune", "doesn't tell a table format"),
        ("ask.csv", b"a,b\n1,2\n", "batch", "JSON Lines"),
        ("ask.jsonl", requests_file({"url": "/v1/embeddings", "custom_id": "x"}), "batch", "line 3: it is /v1/embed"),
        ("ask.jsonl", requests_file({"custom_id": "1"}), "batch", "line 3: '1' is the custom_id of line 2"),
        ("ask.jsonl", requests_file({"method": "GET"}), "batch", "line 3: it must be POST"),
        (
            "ask.jsonl",
            requests_file({"body": {"model": "tiny", "stream": True}}),
            "batch",
            "line 3: answers of a batch",
        ),
        ("ask.jsonl", requests_file() + b"[1]\n", "batch", "line 3: it is no object"),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_line(
    client: Any, name: str, content: bytes, purpose: Any, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        client.files.create(file=(name, content), purpose=purpose)
    assert refused.value.param == "file"
    assert list(client.files.list()) == []


def test_forms_that_say_something_else_are_refused(api: Api, client: Any) -> None:
    for purpose, more in (("vision", {}), ("fine-tune", {"expires_after": {"anchor": "created_at", "seconds": 3600}})):
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.create(file=("a.jsonl", CHATS), purpose=purpose, **more)
        assert refused.value.param in ("purpose", "expires_after")
    path, form = "/v1/files", {"Content-Type": "multipart/form-data; boundary=x"}
    broken = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"a":1}'
    long = {"Content-Type": f"multipart/form-data; boundary={'x' * 5000}"}
    for content, headers in ((b"{}", {}), (b"nonsense", form), (broken, form), (b"--x--", form), (b"--x", long)):
        answer = api.client.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form"), content


def test_a_file_larger_than_allowed_is_refused_while_it_comes(run_api: RunApi) -> None:
    with run_api(dataset_bytes_max=100) as api:
        answer = api.client.post("/v1/files", files={"file": ("a.jsonl", CHATS)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 413


def test_others_files_do_not_exist(api: Api, client: Any) -> None:
    file = client.files.create(file=("train.jsonl", CHATS), purpose="fine-tune")
    with api.as_user(api.new_user("write")) as other:
        answers = [other.get(f"/v1/files/{file.id}"), other.delete(f"/v1/files/{file.id}")]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert other.get("/v1/files").json()["data"] == []


def test_a_file_comes_in_parts(client: Any) -> None:
    upload = client.uploads.upload_file_chunked(
        file=CHATS, filename="parts.jsonl", bytes=len(CHATS), mime_type="text/jsonl", purpose="fine-tune", part_size=200
    )
    assert (upload.status, upload.file.filename, upload.file.bytes) == ("completed", "parts.jsonl", len(CHATS))
    assert client.files.content(upload.file.id).read() == CHATS
    with pytest.raises(openai.ConflictError, match="completed already"):
        client.uploads.parts.create(upload.id, data=io.BytesIO(b"x"))


def test_parts_beyond_what_was_to_come_are_not_stored(api: Api, client: Any) -> None:
    upload = client.uploads.create(filename="a.jsonl", purpose="batch", mime_type="", bytes=50)
    for _ in range(2):
        client.uploads.parts.create(upload.id, data=b"x" * 50)
    with pytest.raises(openai.BadRequestError, match="twice as many"):
        client.uploads.parts.create(upload.id, data=b"y" * 50)
    assert len(list(api.objects().list(f"uploads/{key_of('upload', upload.id)}"))) == 2


def test_parts_that_are_not_the_file_are_refused(client: Any) -> None:
    said = {"filename": "a.jsonl", "purpose": "fine-tune", "mime_type": "text/jsonl", "bytes": len(CHATS)}
    upload = client.uploads.create(**said)
    halves = [client.uploads.parts.create(upload.id, data=half).id for half in (CHATS[:99], CHATS[99:])]
    wrong = {"part_ids": "bytes", "md5": "md5"}
    for (param, words), ids, more in zip(
        wrong.items(),
        ([halves[0]], halves),
        ({}, {"md5": "0" * 32}),
        strict=True,
    ):
        with pytest.raises(openai.BadRequestError, match=words) as refused:
            client.uploads.complete(upload.id, part_ids=ids, **more)
        assert refused.value.param == param
    with pytest.raises(openai.BadRequestError, match="not JSON"):
        client.uploads.complete(upload.id, part_ids=halves[::-1])
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.uploads.complete(upload.id, part_ids=halves)
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_x")

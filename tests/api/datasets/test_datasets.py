from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from eigenwerk import Client, EigenwerkError
from jobspecs.references import Reference
from tests.api.conftest import HEADLINES, Api, RunApi, gzipped, sha256
from tests.lost_answers import losing_answers
from tests.storage.workbooks import ods, xlsx
from workers.agent.housekeeping import Housekeeper


def push(client: httpx.Client, content: bytes, file_name: str = "headlines.csv", **headers: str) -> httpx.Response:
    return client.put("/v1/datasets/headlines", params={"file_name": file_name}, content=content, headers=headers)


def objects(api: Api) -> int:
    """Objects of data sets in the store."""
    return sum(1 for _ in api.objects().list("datasets/"))


def test_a_pushed_file_becomes_a_version_with_a_profile(api: Api) -> None:
    answer = push(api.client, HEADLINES.encode())
    version = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/datasets/{api.user}/headlines/versions/1"
    assert version["reference"] == f"{api.user}/headlines@1"
    assert (version["rows"], version["columns"]) == (20, ["headline", "quality"])
    assert version["sha256"] == sha256(HEADLINES.encode())
    assert version["profile"]["columns"]["quality"]["values"] == {"good": 10, "bad": 10}
    assert api.client.get("/v1/datasets/headlines/versions/1").json() == version
    assert api.client.get("/v1/datasets/headlines/versions/latest").json() == version


def test_equal_content_gives_the_version_that_is_there_and_leaves_no_object(api: Api) -> None:
    assert push(api.client, HEADLINES.encode()).status_code == 201
    before = objects(api)
    again = push(api.client, HEADLINES.encode())
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert objects(api) == before
    other = push(api.client, HEADLINES.encode() + b"one more,good\n")
    assert (other.status_code, other.json()["version"]) == (201, 2)
    versions = api.client.get("/v1/datasets/headlines").json()["versions"]
    assert [version["version"] for version in versions] == [2, 1]
    assert [version["version"] for version in api.client.get("/v1/datasets").json()["data"]] == [2]


def test_a_layout_is_recognised_said_kept_with_the_version_and_told_where_it_is_unclear(api: Api) -> None:
    asked = {"question": "Wann?", "answers": [{"text": "1912", "answer_start": 16}]}
    article = {"title": "T", "paragraphs": [{"context": "Der Hafen wurde 1912 gebaut.", "qas": [asked]}]}
    version = push(api.client, json.dumps({"version": "1.1", "data": [article]}).encode(), "squad.json").json()
    assert version["columns"][:3] == ["question", "context", "answer"]
    assert version["profile"]["dialect"]["layout"] == "questions/below:data"
    assert "not read beside it: version" in version["notices"][0]
    shown = api.client.get("/v1/datasets/headlines/versions/1/preview").json()
    assert shown["rows"][0]["context"] == "Der Hafen wurde 1912 gebaut."
    several = json.dumps({"train": [{"a": "x"}], "test": [{"a": "y"}, {"a": "z"}]}).encode()
    refused = push(api.client, several, "t.json")
    assert refused.status_code == 422
    assert "train, test" in refused.json()["error"]["message"]
    told = {"file_name": "t.json", "layout": "below:test"}
    assert api.client.put("/v1/datasets/headlines", params=told, content=several).json()["rows"] == 2
    wrong = api.client.put("/v1/datasets/headlines", params={**told, "layout": "upwards"}, content=several)
    assert (wrong.status_code, wrong.json()["error"]["problems"][0]["field"]) == (422, "layout")


def test_a_version_is_downloaded_as_it_was_pushed_in_parts_too_and_by_its_owner_alone(api: Api) -> None:
    content = gzipped(HEADLINES)
    push(api.client, content, "h.csv.gz")
    url = "/v1/datasets/headlines/versions/latest/file?redirect=false"
    whole = api.client.get(url, headers={"Accept-Encoding": "identity"})
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["X-Content-SHA256"] == sha256(content)
    assert "h.csv.gz" in whole.headers["Content-Disposition"]
    rest = api.client.get(url, headers={"Range": "bytes=10-", "If-Range": whole.headers["ETag"]})
    assert (rest.status_code, rest.content) == (206, content[10:])
    owned = f"/v1/datasets/{api.user}/headlines/versions/1/file?redirect=false"
    assert api.client.get(owned).status_code == 200
    with api.as_user(api.new_user()) as other:
        assert other.get(owned).status_code == 404
    assert api.client.get("/v1/datasets/headlines/versions/2/file").status_code == 404


@pytest.mark.parametrize(
    ("file_name", "content"),
    [
        ("h.csv.gz", gzipped(HEADLINES)),
        ("h.tsv", HEADLINES.replace(",", "\t").encode()),
        ("h.jsonl", b'{"headline": "a", "quality": "good"}\n{"headline": "b", "quality": "bad"}\n'),
    ],
)
def test_other_formats_are_read_and_previewed(api: Api, file_name: str, content: bytes) -> None:
    assert push(api.client, content, file_name).status_code == 201
    preview = api.client.get("/v1/datasets/headlines/versions/1/preview", params={"rows": 2}).json()
    assert preview["columns"] == ["headline", "quality"]
    assert len(preview["rows"]) == 2
    assert preview["rows"][0].keys() == {"headline", "quality"}


@pytest.mark.parametrize(
    ("content", "row", "words"),
    [
        (b"headline,quality\ng\xc3\xb6\xc3\xb6d one,good\nb\xe4d,bad\n", 2, "not UTF-8"),
        (b"headline,quality\na,good\nb,bad,extra\n", 2, "has 3 fields"),
        (b"headline,quality\n", None, "no rows"),
        (b"", None, ""),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_file_and_row(
    api: Api, content: bytes, row: int | None, words: str
) -> None:
    answer = push(api.client, content)
    assert answer.status_code == 422
    problem = answer.json()["error"]["problems"][0]
    assert (problem["file"], problem["row"]) == ("headlines.csv", row)
    assert words in problem["message"]
    assert problem["remedy"]
    assert api.client.get("/v1/datasets").json()["data"] == []


@pytest.mark.parametrize(
    "file_name", ["table.xlsx", "../../etc/passwd.csv", "a\\b.csv", ".csv", "x" * 300 + ".csv", ""]
)
def test_a_file_name_that_tells_no_format_or_leads_elsewhere_is_refused(api: Api, file_name: str) -> None:
    assert push(api.client, HEADLINES.encode(), file_name).status_code == 422


def test_a_body_that_was_damaged_on_the_way_is_refused(api: Api) -> None:
    answer = push(api.client, HEADLINES.encode(), **{"X-Content-SHA256": sha256(b"other")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "sha256_mismatch")
    assert push(api.client, HEADLINES.encode(), **{"X-Content-SHA256": sha256(HEADLINES.encode())}).status_code == 201


def test_a_file_beyond_the_limit_is_refused_whether_or_not_it_says_its_length(run_api: RunApi) -> None:
    with run_api(dataset_bytes_max=1000) as api:
        assert push(api.client, b"x" * 1001).status_code == 413
        chunks = (b"y" * 100 for _ in range(11))
        streamed = api.client.put("/v1/datasets/h", params={"file_name": "h.csv"}, content=chunks)
        assert streamed.status_code == 413
        assert bodies_in_spool(api) == []


def bodies_in_spool(api: Api) -> list[str]:
    """What was received and not deleted. Small files of models stay as long as the process, in folders of their own."""
    found = api.settings.spool_dir.glob("eigenwerk-spool-*/*")
    return [path.name for path in found if path.name != "lock" and not path.name.startswith("look-")]


def test_nothing_stays_in_the_spool_folder(api: Api) -> None:
    push(api.client, HEADLINES.encode())
    push(api.client, b"broken")
    api.client.get("/v1/datasets/headlines/versions/1/preview")
    assert bodies_in_spool(api) == []


def test_a_preview_of_a_large_file_reads_its_beginning_only(api: Api) -> None:
    text = "headline,quality\n" + "".join(f"{i:08d} {'long ' * 20},good\n" for i in range(50_000))
    assert push(api.client, text.encode()).status_code == 201
    rows = api.client.get("/v1/datasets/headlines/versions/1/preview", params={"rows": 3}).json()["rows"]
    assert [row["headline"][:8] for row in rows] == ["00000000", "00000001", "00000002"]


def test_another_user_sees_no_data_set_of_mine(api: Api) -> None:
    api.push()
    with api.as_user(api.new_user()) as other:
        for path in ("", "/versions/1", "/versions/latest", "/versions/1/preview"):
            assert other.get(f"/v1/datasets/headlines{path}").status_code == 404
        assert other.get("/v1/datasets").json()["data"] == []


def test_a_data_set_has_the_name_that_references_give_it(api: Api) -> None:
    url, params = f"/v1/datasets/{api.user}/headlines", {"file_name": "h.csv"}
    pushed = api.client.put(url, params=params, content=HEADLINES.encode())
    assert (pushed.status_code, pushed.headers["Location"]) == (201, f"{url}/versions/1")
    assert api.client.put("/v1/datasets/headlines", params=params, content=HEADLINES.encode()).json() == pushed.json()
    for path in ("", "/versions/1", "/versions/latest", "/versions/1/preview"):
        mine, named = (api.client.get(f"/v1/datasets/{name}headlines{path}") for name in ("", f"{api.user}/"))
        assert named.status_code == 200, named.text
        assert named.json() == mine.json()
    assert api.client.delete(f"{url}/versions/1").json()["deleted"] == [f"{api.user}/headlines@1"]
    assert api.client.delete(url).status_code == 404


def test_a_name_that_is_a_word_of_the_path_stays_a_name(api: Api) -> None:
    api.push("versions")
    for url in ("/v1/datasets/versions", f"/v1/datasets/{api.user}/versions"):
        assert api.client.get(url).json()["name"] == "versions"
        assert api.client.get(f"{url}/versions/1").json()["reference"] == f"{api.user}/versions@1"
        assert len(api.client.get(f"{url}/versions/1/preview").json()["rows"]) == 10


@pytest.mark.parametrize("name", ["-/headlines", "ada/.hidden", "ada/headlines%0A", "ada/..%00"])
def test_what_is_no_name_of_an_owner_and_a_thing_is_refused(api: Api, name: str) -> None:
    for kind in ("datasets", "deployments"):
        assert api.client.get(f"/v1/{kind}/{name}").status_code == 422


def test_nobody_reaches_a_data_set_by_its_owners_name(api: Api) -> None:
    api.push()
    url, params = f"/v1/datasets/{api.user}/headlines", {"file_name": "h.csv"}
    with api.as_user(api.new_user()) as other:
        for client in (other, api.admin):  # the rights table gives administrators nothing of others' data sets
            for path in ("", "/versions/1", "/versions/latest", "/versions/1/preview", "/versions/1/preview?as=chat"):
                assert client.get(url + path).status_code == 404
            for path in ("", "/versions/1"):
                assert client.delete(url + path).status_code == 404
            assert client.put(url, params=params, content=b"a,b\n1,2\n").status_code == 404
            absent = client.put("/v1/datasets/nobody-at-all/headlines", params=params, content=b"a,b\n1,2\n")
            assert absent.status_code == 404, "nobody learns which owners there are"
    assert [item["version"] for item in api.client.get(url).json()["versions"]] == [1]


def test_the_key_of_the_object_is_made_by_the_platform(api: Api) -> None:
    version = api.push()
    with api.database.unit_of_work() as work:
        row = work.datasets.find(api.reach(), Reference(name="headlines"))
        assert row is not None
        assert row.key == f"datasets/{UUID(str(row.id))}/data.csv"
        assert row.sha256 == version["sha256"]


def test_without_the_object_store_a_push_answers_503_and_makes_no_version(run_api: RunApi, api: Api) -> None:
    away = replace(api.settings.storage, s3_endpoint="http://127.0.0.1:1")
    with run_api(storage=away) as other:
        answer = push(other.client, HEADLINES.encode())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "object_store_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert other.client.get("/v1/datasets").json()["data"] == []


def test_a_push_whose_commit_was_not_answered_keeps_its_object_and_the_next_one_finds_it(
    run_api: RunApi, api: Api
) -> None:
    storage = api.settings.storage
    with (
        losing_answers(storage.database_url, "INSERT INTO dataset_versions") as (url, lost),
        run_api(storage=replace(storage, database_url=url)) as other,
    ):
        lost.left = 1
        first = push(other.client, HEADLINES.encode())
        assert (first.status_code, first.json()["error"]["code"]) == (503, "database_unavailable")
        assert lost.left == 0
        again = push(other.client, HEADLINES.encode())
        assert (again.status_code, again.json()["version"]) == (200, 1)
        rows = other.client.get("/v1/datasets/headlines/versions/1/preview").json()["rows"]
        assert len(rows) == 10


def test_the_object_of_a_push_that_never_became_a_version_goes_after_a_day(run_api: RunApi, api: Api) -> None:
    """As a crash between upload and commit leaves it."""
    storage = api.settings.storage
    with (
        losing_answers(storage.database_url, "INSERT INTO garbage") as (url, lost),
        run_api(storage=replace(storage, database_url=url)) as other,
        closing(api.objects()) as store,
    ):
        keeper = Housekeeper(api.database, store)
        keeper.sweep_garbage()  # what other tests deleted
        before = objects(api)
        lost.left = 1
        assert push(other.client, HEADLINES.encode()).status_code == 503
        with api.database.unit_of_work() as work:
            left = work.session.scalars(text("SELECT prefix FROM garbage ORDER BY created_at DESC LIMIT 1")).one()
        store.put_bytes(f"{left}/data.csv", HEADLINES.encode())
        keeper.sweep_garbage()
        assert objects(api) == before + 1, "it may yet become a version"
        with api.database.unit_of_work() as work:
            work.garbage.add(left, bytes_total=0)  # the day is over
        keeper.sweep_garbage()
        assert objects(api) == before
        assert push(other.client, HEADLINES.encode()).status_code == 201


@pytest.mark.parametrize("content", [None, b"short", bytes(len(HEADLINES))])
def test_pushing_again_heals_a_data_set_whose_object_is_missing_or_damaged(api: Api, content: bytes | None) -> None:
    api.push()
    with api.database.unit_of_work() as work:
        row = work.datasets.find(api.reach(), Reference(name="headlines"))
    assert row is not None
    with closing(api.objects()) as store:
        if content is None:
            store.delete(row.key)
        else:
            store.put_bytes(row.key, content)
        assert push(api.client, HEADLINES.encode()).status_code == 200
        assert store.get_bytes(row.key) == HEADLINES.encode()


def test_a_table_as_excel_writes_it_is_taken_and_read_alike_ever_after(api: Api) -> None:
    content = "Text;Klasse\r\n" + "".join(f"Der Akku hält {n}; oder nicht\r\n" for n in range(4))
    url = "/v1/datasets/excel"
    answer = api.client.put(url, params={"file_name": "excel.csv"}, content=content.encode("cp1252"))
    version = answer.json()
    assert (answer.status_code, version["columns"]) == (201, ["Text", "Klasse"])
    assert version["recognised"] == 'semicolon, quotes ", cp1252, CRLF'
    assert "cp1252" in version["notices"][0]
    assert version["profile"]["dialect"]["encoding"] == "cp1252"
    assert api.client.get(f"{url}/versions/1/preview").json()["rows"][0]["Text"] == "Der Akku hält 0"
    # The same bytes read in another way are another version; read in the same way they are there already.
    told = {"file_name": "excel.csv", "encoding": "latin-1", "quote": "none"}
    again = [api.client.put(url, params=told, content=content.encode("cp1252")) for _ in range(2)]
    assert [(each.status_code, each.json()["version"]) for each in again] == [(201, 2), (200, 2)]


@pytest.mark.parametrize(
    ("told", "field"),
    [({"delimiter": "||"}, "delimiter"), ({"encoding": "rot13"}, "encoding"), ({"sheet": "1"}, "sheet")],
)
def test_what_is_told_and_makes_no_sense_is_refused(api: Api, told: dict[str, str], field: str) -> None:
    answer = api.client.put(
        "/v1/datasets/headlines", params={"file_name": "headlines.csv", **told}, content=HEADLINES.encode()
    )
    assert answer.status_code == 422
    assert field in answer.text
    assert api.client.get("/v1/datasets/headlines").status_code == 404


def test_a_sheet_of_a_workbook_is_a_data_set_and_one_that_takes_too_much_is_refused(api: Api, tmp_path: Path) -> None:
    path = xlsx(tmp_path / "t.xlsx", {"Daten": [["text", "n"], ["hält", 3]], "Notizen": [["x"], ["y"]]})
    url = "/v1/datasets/workbook"
    version = api.client.put(url, params={"file_name": "t.xlsx", "sheet": "1"}, content=path.read_bytes()).json()
    assert (version["recognised"], version["rows"]) == ("sheet Daten", 1)
    assert api.client.get(f"{url}/versions/1/preview").json()["rows"] == [{"text": "hält", "n": "3"}]
    cells = '<table:table-cell office:value-type="float" office:value="1" table:number-columns-repeated="900"/>'
    rows = f'<table:table-row table:number-rows-repeated="1000000">{cells}</table:table-row>'
    growing = ods(tmp_path / "g.ods", [["text"]], rows)
    refused = api.client.put(url, params={"file_name": "g.ods"}, content=growing.read_bytes())
    assert (refused.status_code, "save the sheet as CSV" in refused.text) == (422, True)
    far = xlsx(tmp_path / "far.xlsx", {"A": [["text"], ["a"]]}, last="XFD1048576")
    refused = api.client.put(url, params={"file_name": "far.xlsx"}, content=far.read_bytes())
    assert (refused.status_code, "too much memory" in refused.text, "far from the table" in refused.text) == (
        422,
        True,
        True,
    )


def test_several_files_are_pushed_as_one_data_set_and_refused_with_the_file_and_its_row(
    api: Api, tmp_path: Path
) -> None:
    token = api.client.headers["Authorization"].removeprefix("Bearer ")
    for name, content in {"a.csv": HEADLINES, "b.csv": "quality,headline\ngood,one\n", "c.csv": "headline\n"}.items():
        (tmp_path / name).write_text(content)
    train, test, wrong = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    with Client(api.url, token) as client:
        version = client.push_dataset({"train": train, "test": [test]}, name="several")
        assert (version.rows, version.columns) == (21, ["split", "headline", "quality"])
        assert client.push_dataset({"train": train, "test": [test]}, name="several") == version
        assert client.preview_dataset("several", rows=1).rows[0]["split"] == "train"
        with pytest.raises(EigenwerkError, match=r"c\.csv"):
            client.push_dataset([train, wrong], name="several")
        test.write_text("quality,headline\ngood,one\ngood\n")
        with pytest.raises(EigenwerkError, match=r"file b\.csv, row 2"):
            client.push_dataset([train, test], name="several")
        train = train.rename(tmp_path / "Überschriften (1).csv")
        with pytest.raises(EigenwerkError, match="--name"):
            client.push_dataset(train)

"""Data sets of a hub, fetched by an unmodified huggingface_hub, made data sets of a real platform."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow
import pyarrow.parquet
import pytest

from eigenwerk import Client, EigenwerkError
from eigenwerk.cli.application import main
from eigenwerk.hub import find_hub_dataset, ready_to_push
from tests.api.conftest import Api
from tests.client.hub import CONVERTED, Hub, running_hub

ROWS: dict[str, list[Any]] = {"text": ["Zinsen steigen", "Sterne leuchten", "Ohne Klasse"], "label": [1, 0, -1]}
FEATURES = '{"info": {"features": {"label": {"names": ["stars", "rates"], "_type": "ClassLabel"}}}}'


def parquet(rows: dict[str, list[Any]], features: str | None = None) -> bytes:
    table = pyarrow.table(rows).replace_schema_metadata({"huggingface": features} if features else None)
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        # The library has read its environment when it was imported.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield running


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, api.client.headers["Authorization"].removeprefix("Bearer ")) as client:
        yield client


def test_a_file_of_a_hub_becomes_a_data_set_that_knows_its_commit_and_licence(hub: Hub, client: Client) -> None:
    card = "---\nlicense: cc0-1.0\n---\n"
    commit = hub.add("org/news", {"README.md": card, "train.csv": "text;label\nA;1\nB;2\n"})
    version = client.pull_dataset("hub:org/news")
    assert (version.name, version.rows, version.columns) == ("news", 2, ["text", "label"])
    assert (version.origin, version.license) == (f"hub:org/news@{commit}", "cc0-1.0")
    [listed] = client.datasets()
    assert (listed.origin, listed.license) == (version.origin, version.license)
    assert hub.tokens == {"Bearer hf_mine"}


def test_rows_that_are_there_already_keep_where_they_came_from_and_that_is_said(
    hub: Hub, api: Api, client: Client
) -> None:
    rows = "text,label\nA,1\nB,2\n"
    api.push("news", rows, "train.csv")
    hub.add("org/news", {"train.csv": rows})
    version = client.pull_dataset("hub:org/news")
    assert (version.version, version.origin) == (1, None)
    assert version.notices == ["these rows were there already; they came from a file that was pushed"]


def test_a_revision_is_pulled_as_it_was(hub: Hub, client: Client) -> None:
    hub.add("org/news", {"train.csv": "text\nnew\n"})
    commit = hub.add("org/news", {"train.csv": "text\nold\n"}, revision="v1")
    version = client.pull_dataset("hub:org/news@v1", name="old-news")
    assert (version.name, version.origin) == ("old-news", f"hub:org/news@{commit}")
    assert client.preview_dataset("old-news").rows == [{"text": "old"}]


def test_classes_get_their_names_unless_numbers_are_asked_for(hub: Hub, client: Client) -> None:
    hub.add("org/kept", {"data/train-00000-of-00001.parquet": parquet(ROWS, FEATURES)})
    named = client.pull_dataset("hub:org/kept")
    assert "label holds the names of its 2 classes (stars, rates) and not their numbers" in named.notices
    rows = client.preview_dataset("kept").rows
    assert [row["label"] for row in rows] == ["rates", "stars", None]
    assert [row["text"] for row in rows] == ROWS["text"]
    with ready_to_push(find_hub_dataset("hub:org/kept"), class_names=False) as (file, said):
        assert (pyarrow.parquet.read_table(file).to_pydict(), said) == (ROWS, [])


def test_lists_of_classes_get_names_too(hub: Hub, client: Client) -> None:
    rows: dict[str, list[Any]] = {"tokens": [["Zinsen", "steigen"], [], None], "tags": [[1, -1], [], None]}
    features = (
        '{"info": {"features": {"tags": {"_type": "List", "feature": {"names": ["O", "B"], "_type": "ClassLabel"}}}}}'
    )
    hub.add("org/tags", {"rows.parquet": parquet(rows, features)})
    client.pull_dataset("hub:org/tags")
    assert [row["tags"] for row in client.preview_dataset("tags").rows] == [["B", None], [], None]


def test_a_card_names_classes_too_and_a_number_without_a_name_is_refused(hub: Hub, client: Client) -> None:
    card = "---\ndataset_info:\n  features:\n  - name: label\n    dtype: {class_label: {names: {'0': only}}}\n---\n"
    hub.add("org/card", {"README.md": card, "rows.parquet": parquet(ROWS)})
    with pytest.raises(EigenwerkError, match=r"rows\.parquet: label holds numbers from 0 to 1.*--class-numbers"):
        client.pull_dataset("hub:org/card")
    assert client.datasets() == []


def test_several_configurations_are_refused_with_their_names_until_one_is_chosen(hub: Hub, client: Client) -> None:
    configs = "- {config_name: de, data_files: de.csv, sep: '|'}\n- {config_name: en, data_files: en.csv}\n"
    hub.add("org/both", {"README.md": f"---\nconfigs:\n{configs}---\n", "de.csv": "a|b\n1,2|3\n", "en.csv": "a\n1\n"})
    with pytest.raises(EigenwerkError, match=r"2 data sets. Choose one with --config: de, en"):
        client.pull_dataset("hub:org/both")
    with pytest.raises(EigenwerkError, match=r"no configuration fr. It has: de, en"):
        client.pull_dataset("hub:org/both", config="fr")
    version = client.pull_dataset("hub:org/both", config="de")
    assert version.origin is not None
    assert version.origin.endswith("#de")
    assert client.preview_dataset("both").rows == [{"a": "1,2", "b": "3"}]


def test_a_program_is_not_run_and_the_hubs_conversion_is_taken_instead(hub: Hub, client: Client) -> None:
    hub.add("org/scripted", {"scripted.py": "raise SystemExit", "raw.csv": "x\n1\n"})
    with pytest.raises(EigenwerkError, match=r"loaded by a program, scripted\.py, which is foreign code"):
        client.pull_dataset("hub:org/scripted")
    commit = hub.add("org/scripted", {"plain/partial-train/0000.parquet": parquet({"text": ["A"]})}, CONVERTED)
    version = client.pull_dataset("hub:org/scripted")
    assert version.origin == f"hub:org/scripted@{commit}"
    assert any("conversion to Parquet is taken" in notice for notice in version.notices)
    assert "the hub has converted only a part of train" in version.notices
    assert "scripted.py" not in hub.fetched


def test_private_missing_and_gated_sets_and_a_hub_that_is_away_are_one_line_each(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/gated", {"README.md": "---\n---\n", "train.csv": "x\n1\n"})
    hub.gated.add("org/gated")
    hub.add("org/there", {"train.csv": "x\n1\n"})
    for reference, words in (
        ("hub:org/absent", "has no data set org/absent, or does not show it to you"),
        ("hub:org/gated", f"Ask for it at {hub.url}/datasets/org/gated"),
        ("hub:org/there@v9", "no such branch, tag or commit"),
        ("hub:org/there@..", "write hub:org/name"),
        ("org/there", "write hub:org/name"),
    ):
        with pytest.raises(EigenwerkError) as caught:
            find_hub_dataset(reference)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EigenwerkError, match="HF_HUB_OFFLINE is set"):
        find_hub_dataset("hub:org/there")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(EigenwerkError, match=r"could not be fetched from http://127\.0\.0\.1:1"):
        find_hub_dataset("hub:org/there")


def test_a_download_that_is_cut_goes_on_and_damage_is_refused_with_nothing_registered(
    hub: Hub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    rows = "text\n" + "".join(f"row {number}\n" for number in range(5000))
    hub.add("org/cut", {"train.csv": rows})
    hub.cuts.append(20_000)
    assert client.pull_dataset("hub:org/cut").rows == 5000
    assert hub.fetched == ["train.csv"] * 2
    hub.add("org/bad", {"train.csv": rows})
    hub.damaged["train.csv"] = rows.replace("row 7", "ROW 7").encode()
    with pytest.raises(EigenwerkError, match="another sum than the hub says"):
        client.pull_dataset("hub:org/bad")
    assert [version.name for version in client.datasets()] == ["cut"]
    hub.damaged.clear()
    with ready_to_push(find_hub_dataset("hub:org/bad"), class_names=True) as (file, _):
        assert file.read_text() == rows


def test_splits_with_unlike_columns_are_refused_with_the_splits_that_can_be_taken(hub: Hub, client: Client) -> None:
    hub.add("org/race", {"train.csv": "text,label\nA,1\n", "test.csv": "text\nB\n"})
    with pytest.raises(
        EigenwerkError, match=r"'label'.*one of its splits \(train, test\) alone: --split NAME"
    ) as caught:
        client.pull_dataset("hub:org/race")
    assert caught.value.problems[0].field == "label"
    assert client.pull_dataset("hub:org/race", splits=["train"]).rows == 1


def test_parts_that_the_column_split_cannot_name_are_refused_before_they_are_fetched(hub: Hub, client: Client) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    card += "".join(
        f"  - split: {split}\n    path: {path}\n" for split, path in (("de/train", "a.csv"), ("test", "b.csv"))
    )
    hub.add("org/parts", {"README.md": f"{card}---\n", "a.csv": "text\nA\n", "b.csv": "text\nB\n"})
    with pytest.raises(EigenwerkError, match=r"'de/train'.*Take the parts one by one.*--split de/train"):
        client.pull_dataset("hub:org/parts")
    assert hub.fetched == ["README.md"]
    assert client.pull_dataset("hub:org/parts", splits=["de/train"]).rows == 1


def test_the_command_says_what_will_be_fetched_and_lists_where_it_came_from(
    hub: Hub, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENWERK_URL", api.url)
    monkeypatch.setenv("EIGENWERK_TOKEN", api.client.headers["Authorization"].removeprefix("Bearer "))
    commit = hub.add(
        "org/news", {"README.md": "---\nlicense: mit\n---\n", "train.csv": "text\nA\n", "dev.csv": "text\nB\n"}
    )
    assert main(["datasets", "pull", "hub:org/news", "--split", "validation"]) == 0
    printed = capsys.readouterr()
    assert f"hub:org/news@{commit[:8]}: 1 file, 7 B; split validation; licence mit" in printed.err
    assert f"origin: hub:org/news@{commit[:8]}, mit" in printed.out
    assert main(["datasets", "list"]) == 0
    assert f"hub:org/news@{commit[:8]}, mit" in capsys.readouterr().out
    assert main(["datasets", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["origin"] == f"hub:org/news@{commit}"
    assert main(["datasets", "pull", "hub:org/news", "--split", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1
    assert main(["datasets", "pull", "hub:org/news", "--split", "test"]) == 1
    assert "has no split test. It has: train, validation." in capsys.readouterr().err
    monkeypatch.setenv("EIGENWERK_URL", "http://127.0.0.1:1")
    hub.asked.clear()
    assert main(["datasets", "pull", "hub:org/news"]) == 1
    assert "Nothing answers at http://127.0.0.1:1" in capsys.readouterr().err
    assert "train.csv" not in hub.fetched


def test_the_client_alone_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EigenwerkError, match=r"needs huggingface_hub. Install it: pip install 'eigenwerk\[hub\]'"):
        find_hub_dataset("hub:org/news")


def test_shards_and_splits_are_one_data_set_that_comes_back_as_it_was(hub: Hub, client: Client, tmp_path: Path) -> None:
    shard = [parquet({"text": [f"{part} {number}"], "label": [number]}, FEATURES) for part in "ab" for number in (0, 1)]
    files = {f"{folder}/train/0000.parquet": shard[number] for number, folder in enumerate(("x", "y"))}
    hub.add("org/parts", {**files, "x/test/0000.parquet": shard[2], "y/test/1.parquet": shard[3]})
    version = client.pull_dataset("hub:org/parts")
    assert version.columns == ["split", "text", "label"]
    rows = client.preview_dataset("parts").rows
    assert [(row["split"], row["text"], row["label"]) for row in rows] == [
        ("train", "a 0", "stars"),
        ("train", "a 1", "rates"),
        ("test", "b 0", "stars"),
        ("test", "b 1", "rates"),
    ]
    file = client.download_dataset(version, tmp_path)
    again = client.push_dataset(file, name="again")
    assert client.preview_dataset(again.reference).rows == rows
    # Pulled again, it is the same bytes, and so the same version; one split alone has no column for it.
    with ready_to_push(find_hub_dataset("hub:org/parts"), class_names=True) as (whole, _):
        assert whole.read_bytes() == file.read_bytes()
    some = find_hub_dataset("hub:org/parts", splits=["test"])
    with ready_to_push(some, class_names=True) as (part, _), tarfile.open(part) as archive:
        assert archive.getnames() == ["0000.parquet", "1.parquet"]

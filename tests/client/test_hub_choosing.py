from __future__ import annotations

import time
from pathlib import Path

import pytest
from datasets.data_files import DataFilesDict, get_data_patterns

from eigenwerk import EigenwerkError
from eigenwerk.hub.card import Config, read_card
from eigenwerk.hub.choosing import _matching, by_names, chosen
from eigenwerk.hub.finding import _kept, _reading
from eigenwerk.hub.hub_dataset import HubDataset, HubFile
from eigenwerk.hub.preparing import named_files

LAYOUTS = [
    ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
    ["data/train_sft-00000-of-00001-3d4c.parquet", "data/test_sft-00000-of-00001-9a.parquet"],
    ["train.csv", "dev.csv", "test.csv"],
    ["my-dataset.valid.jsonl.gz", "my-dataset.training.jsonl.gz", "latest.jsonl.gz"],
    ["train/a.json", "train/b.json", "evaluation/c.json"],
    ["en/train/0000.csv", "en/test/0000.csv", "de/train/0000.csv"],
    ["train_1/test.csv", "rows.csv"],
    ["retrained.csv", "contest.csv"],
    ["a.csv", "sub/b.csv"],
    [".hidden/train.csv", "__cache__/train.csv", "train.csv"],
]


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 1, "0" * 40) for path in paths]


def paths(splits: dict[str, tuple[HubFile, ...]]) -> dict[str, list[str]]:
    return {split: [file.path for file in found] for split, found in splits.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout[0]))
def test_names_tell_the_parts_as_they_do_to_the_hubs_own_library(layout: list[str], tmp_path: Path) -> None:
    for path in layout:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    theirs = DataFilesDict.from_patterns(get_data_patterns(str(tmp_path)), base_path=str(tmp_path))
    expected = {
        str(split): sorted(Path(path).relative_to(tmp_path).as_posix() for path in found)
        for split, found in theirs.items()
    }
    ours, _ = chosen(files(*layout), Config())
    assert {split: sorted(found) for split, found in paths(ours).items()} == expected


CARD = """---
license: [cc-by-4.0, mit]
configs:
- config_name: no
  data_dir: norsk
  data_files:
  - {split: train, path: "**/part-*.csv"}
  - split: test
    path: [test/a.csv, "test/[!a].csv"]
  sep: ";"
- config_name: plain
  default: true
  data_files: "*.csv"
dataset_info:
- config_name: plain
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'1': 'yes', '0': 'no'}}}
  - name: tags
    sequence: {class_label: {names: [O, B]}}
---
# A card
"""


def test_a_card_says_which_files_each_configuration_has() -> None:
    card, said = read_card(CARD.replace("\n", "\r\n"))
    assert (card.license, said, [config.name for config in card.configs]) == ("cc-by-4.0, mit", [], ["no", "plain"])
    there = files("norsk/part-1.csv", "norsk/deep/part-2.csv", "norsk/test/a.csv", "norsk/test/b.csv", "top.csv")
    norsk, plain = (chosen(there, config)[0] for config in card.configs)
    assert paths(norsk) == {
        "train": ["norsk/part-1.csv", "norsk/deep/part-2.csv"],
        "test": ["norsk/test/a.csv", "norsk/test/b.csv"],
    }
    assert paths(plain) == {"train": ["top.csv"]}
    assert card.configs[0].reading == {"sep": ";"}
    assert card.class_names["plain"] == {"label": ("no", "yes"), "tags": ("O", "B")}


def test_what_a_card_says_of_files_that_are_not_there_or_lie_elsewhere_is_refused() -> None:
    config = Config(patterns={"test": ("test/*.csv",)})
    with pytest.raises(EigenwerkError, match=r"test is test/\*\.csv, and the repository has no such file"):
        chosen(files("train.csv"), config)
    elsewhere = "---\nconfigs:\n- config_name: a\n  data_files: https://example.org/x.csv\n---\n"
    with pytest.raises(EigenwerkError, match="outside the repository"):
        read_card(elsewhere)


@pytest.mark.parametrize(
    "head",
    [
        "license: other\nlicense_name: ours\nlicense_link: LICENSE",
        "configs: all\ndataset_info: [1, {features: [a, {name: b, dtype: {class_label: c}}]}]\nlicense: [ours]",
        "license: 'ours\n\n '\ndataset_info: {features: {name: x, dtype: {class_label: {names: [[]]}}}}",
    ],
)
def test_cards_of_odd_shapes_tell_what_they_can(head: str) -> None:
    card, said = read_card(f"---\n{head}\n---\n")
    assert (card.license, card.configs, said) == ("ours", (), [])
    assert not any(card.class_names.values())


def test_a_card_whose_yaml_is_broken_is_said_to_be_so() -> None:
    assert read_card("---\nlicense: [\n---\n")[1] == [
        "the YAML of the card can't be read; the names of the files tell the parts"
    ]


def test_tables_beside_those_whose_names_tell_a_split_are_named() -> None:
    splits, said = chosen(files("data/train-00000-of-00001.csv", "raw.csv"), Config())
    assert paths(splits) == {"train": ["data/train-00000-of-00001.csv"]}
    assert said == ["left out, because their names tell no split as others' do: raw.csv"]


def test_only_the_kind_that_most_files_have_is_taken_and_the_rest_is_named() -> None:
    splits, said = chosen(files("a.parquet", "b.parquet", "LICENSE.txt", "notes.csv"), Config())
    assert paths(splits) == {"train": ["a.parquet", "b.parquet"]}
    assert said == ["left out, because most files are parquet: LICENSE.txt, notes.csv"]


def test_a_repository_without_tables_says_what_it_has_instead() -> None:
    with pytest.raises(EigenwerkError, match=r"formats that are not read here: a\.arrow, b\.jsonl\.zst"):
        chosen(files("a.arrow", "b.jsonl.zst", "state.json", "README.md"), Config())


def test_the_same_name_in_two_folders_is_two_files() -> None:
    assert paths(by_names(files("en/train/0.csv", "de/train/0.csv"))) == {"train": ["en/train/0.csv", "de/train/0.csv"]}


def test_each_file_keeps_a_name_of_its_own_whatever_others_are_called() -> None:
    there = files("a/2-x.csv", "b/x.csv", "c/x.csv", "d/x.csv")
    fetched = {file: Path(file.path) for file in there}
    named = named_files(HubDataset("org/x", "0" * 40, {"train": tuple(there)}), fetched)
    assert sorted(named.values()) == sorted(fetched.values())


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*a*a*a*a*ab", "a" * 200, False),
        ("**/" * 40 + "*a" * 40 + "b", "/".join("a" * 90), False),
        ("**/x/*", "a/b/x/c", True),
        ("**/x/*", "a/b/x/c/d", False),
        ("a**c", "a/b/c", True),
        ("a*c", "a/b/c", False),
        ("a?[!b]", "abc", True),
        ("a?[!b[]", "ab[", False),
        ("a**/c", "a/c", False),
        ("a**/c", "ab/c", True),
    ],
)
def test_a_pattern_is_looked_for_in_time_that_grows_with_its_length(pattern: str, path: str, fits: bool) -> None:
    there = [HubFile(f"d/{path}", 1, "0" * 40), *files("d/other.csv")]
    began = time.process_time()
    found = _matching(there, [f"d/{pattern}"])
    assert time.process_time() - began < 1
    assert bool(found) is fits


def test_a_card_that_grows_with_its_aliases_is_not_read() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    card, said = read_card("---\n" + "\n".join([*lines, "license: mit"]) + "\n---\n")
    assert (card.license, said) == (
        None,
        ["the YAML of the card is not read: it grows when its aliases are what they stand for"],
    )


def test_what_a_card_says_is_shown_short_and_on_one_line() -> None:
    card, _ = read_card('---\nlicense: "mit\\e[2J\\0 x"\n---\n')
    assert card.license == "mit [2J x"
    said = {"one": "x" * 1000, "two": [["y"] * 1000], "three": "a\x1b[2J"} | {f"more{n}": "" for n in range(9)}
    [notice] = _reading(said)[1]
    assert len(notice) < 300
    assert notice.isprintable()
    assert "two, three: a [2J" in notice
    assert _kept(Config("de")) == ("de", [])
    for name in ("a\x1b[2J", "a" * 600):
        named, [notice] = _kept(Config(name))
        assert named is None
        assert notice.isprintable() and len(notice) < 200

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenwerk import EigenwerkError
from eigenwerk.specs import SPEC_BYTES_MAX, parse_spec_text, read_spec
from jobspecs.pipelines.reading import parse_pipeline
from jobspecs.problems import Problem
from jobspecs.registry import parse_spec
from jobspecs.sweeps.reading import parse_sweep

_TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=5))
def test_json_means_the_same_read_as_yaml(document: dict[str, object]) -> None:
    text = json.dumps(document)
    assert parse_spec_text(text, "s.yaml").document == document
    assert parse_spec_text(text, "s.json", is_json=True).document == document


def test_yaml_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    text = "a: no\nb: 2e-5\nc: 2024-01-01\nd: 010\ne: '5'\nf: 1:30\ng: ~\nh: true\ni: .5\nj: '<<'\nk: .inf\n"
    assert parse_spec_text(text, "s.yaml").document == {
        **{"a": "no", "b": 2e-5, "c": "2024-01-01", "d": 10, "e": "5", "f": "1:30"},
        **{"g": None, "h": True, "i": 0.5, "j": "<<", "k": ".inf"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3: the field 'a' is there twice"),
        ("a: &x 1\nb: *x\n", "s.yaml:1: anchors and aliases"),
        ("a: !!python/object/apply:os.system [x]\n", "s.yaml:1: tags"),
        ("a: [1\nb: 2\n", "s.yaml:2: this is not YAML"),
        ("a: 1\n\tb: 2\n", "s.yaml:2: this is not YAML"),
        ("? [1, 2]\n: 3\n", "s.yaml:1: the name of a field is plain text"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2: this is not YAML"),
        ("a: " + "[" * 40 + "]" * 40, "s.yaml:1: this is nested too deeply"),
        ("- 1\n", "s.yaml: a job spec is a mapping"),
        ("", "s.yaml: a job spec is a mapping"),
    ],
)
def test_what_is_no_spec_is_refused_with_file_and_line(text: str, message: str) -> None:
    with pytest.raises(EigenwerkError) as caught:
        parse_spec_text(text, "s.yaml")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "a": 2}', "s.json: the field 'a' is there twice"),
        ('{"a": 1,\n}', "s.json:2: this is not JSON"),
        ('{"a": NaN}', "s.json: NaN is not a number"),
        ("[" * 100_000, "s.json: this is nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_too(text: str, message: str) -> None:
    with pytest.raises(EigenwerkError) as caught:
        parse_spec_text(text, "s.json", is_json=True)
    assert str(caught.value).startswith(message)


def test_files_that_cannot_be_a_spec_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EigenwerkError, match="it does not exist"):
        read_spec(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(EigenwerkError, match=r"latin\.yaml:2: this is not UTF-8"):
        read_spec(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (SPEC_BYTES_MAX + 1))
    with pytest.raises(EigenwerkError, match="larger than"):
        read_spec(tmp_path / "large.yaml")


def test_a_problem_is_shown_at_the_line_of_its_field() -> None:
    spec = parse_spec_text("kind: x\ntraining:\n  epochs: 1\n  epoch: 2\nlist:\n  - a\n  - b\n", "s.yaml")
    located = [
        spec.located(Problem(field=field, message="wrong."))
        for field in ("training.epoch", "training.z", "list.1", "no")
    ]
    assert located == [
        "s.yaml:4: field training.epoch: wrong.",
        "s.yaml:2: field training.z: wrong.",
        "s.yaml:7: field list.1: wrong.",
        "s.yaml: field no: wrong.",
    ]


def test_the_examples_are_valid_specs() -> None:
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    assert examples
    for path in examples:
        document = read_spec(path).document
        if document["kind"] in ("pipeline", "sweep"):
            (parse_pipeline if document["kind"] == "pipeline" else parse_sweep)(document)
            continue
        spec = parse_spec(document)
        assert parse_spec(spec.model_dump(mode="json")) == spec, "as it is stored, and read by the worker"

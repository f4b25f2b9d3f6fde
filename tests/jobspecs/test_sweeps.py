"""Sweeps as people write them: what is understood, and what is refused where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobspecs.problems import InvalidInput
from jobspecs.registry import parse_spec
from jobspecs.sweeps.document import Halving, Range
from jobspecs.sweeps.lifecycle import CONFIRMATION
from jobspecs.sweeps.reading import parse_sweep
from jobspecs.sweeps.space import Dimension, point, points, with_values

SPEC = {"kind": "train-classifier", "name": "m", "model": "base@1", "dataset": "d@1", "text": "t", "label": "l"}
RATES = {"training.learning_rate": [1e-5, 3e-5]}
LOG = {"low": 1e-5, "high": 1e-3, "scale": "log"}


def sweep(spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": "sweep", "name": "s", "spec": spec or SPEC, "over": RATES, **more}


def test_trials_are_judged_by_other_rows_than_the_winner_and_all_by_one_figure() -> None:
    read = parse_sweep(sweep())
    trial, winner = read.spec_of({"training.learning_rate": 3e-5}, 1), read.spec_of({}, CONFIRMATION)
    assert (trial.name, winner.name, read.figures, read.goal) == ("s-trial", "m", ("macro_f1",), "max")
    dumped = trial.model_dump()
    assert dumped["test"]["sealed"] and dumped["metric"] == "macro_f1" and dumped["training"]["learning_rate"] == 3e-5
    assert "sealed" not in winner.model_dump()["test"]
    assert read.figure({"validation/macro_f1": 0.5, "validation/macro_f1_low": 0.4}) == (0.5, 0.4, None)
    assert read.figure({"validation/accuracy": 0.5}) is None


def test_named_rows_confirm_and_nothing_does_where_that_is_not_wanted_or_not_possible() -> None:
    test = {"column": "split", "values": ["test"]}
    named = parse_sweep(sweep({**SPEC, "test": test}))
    assert named.spec_of({}, 1).model_dump()["test"] == {**test, "dataset": None, "sealed": True}
    # Rows that choose are drawn for the search, though a job with `test` draws none.
    assert named.spec_of({}, 1).model_dump()["validation"]["fraction"] == 0.25
    assert named.spec_of({}, CONFIRMATION).model_dump()["validation"]["fraction"] == 0
    assert parse_sweep(sweep(confirm=False)).spec_of({}, 1).model_dump()["test"] is None
    scoring = {"kind": "score-pairs", "name": "s", "teacher": "t@1", "dataset": "d@1", "pair": ["a", "b"]}
    scored = parse_sweep(sweep(scoring, over={"teacher": ["t@1", "u@1"]}, metric="mean"))
    assert not scored.confirms and scored.figure({"scores/mean": 1.0}) == (1.0, None, None)


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"over": {"training.learning_rat": [1, 2]}}, "over.training.learning_rat", "unknown field"),
        ({"over": {"training.batch_size": [8, 0, "x"]}}, "over.training.batch_size.1", "0 is refused: Input should be"),
        ({"over": {"training.batch_size": {"low": 0, "high": 9}}}, "over.training.batch_size.low", "0 is refused"),
        ({"over": {"training": [{"batch_size": 8}, {"batch": 8}]}}, "over.training.1", "is refused: unknown field"),
        ({"over": {"text.x": [1]}}, "over.text.x", "text is no section with fields"),
        ({"over": {}}, "over", "at least 1 item"),
        ({"over": {"text": []}}, "over.text", "it has no value"),
        ({"over": {"text": ["t", "t"]}}, "over.text", "a value is there twice"),
        ({"over": {"a b": ["t"]}}, "over", "'a b' is no field of a spec"),
        ({"over": {"training": [{}], **RATES}}, "over.training.learning_rate", "a part of training"),
        ({"over": {"name": ["a", "b"]}}, "over.name", "the winner's model has one name"),
        ({"over": {"validation.seed": [1, 2]}}, "over.validation.seed", "compared by the same rows"),
        ({"over": {"rows": [100, 200]}}, "over.rows", "compared by the same rows"),
        ({"over": {"training.learning_rate": LOG}}, "over.training.learning_rate", "can't try every number"),
        ({"over": {"training.batch_size": {"low": 9, "high": 1}}}, "over.training.batch_size", "low must be less"),
        (
            {
                "over": {
                    "training.batch_size": {"low": 1, "high": 1000},
                    "training.max_length": {"low": 8, "high": 1007},
                }
            },
            "over",
            "the grid has 1,000,000 combinations; at most 1,000 trials are allowed",
        ),
        ({"over": {"text": {"low": 1e-300, "high": 1e3, "step": 1e-300}}}, "over.text", "step is too small"),
        ({"over": {"text": {"low": 0, "high": 10**400}}}, "over.text.high", "less than or equal to"),
        ({"method": "random"}, "trials", "the field is missing: random takes as many trials as you say"),
        ({"method": "tpe", "trials": 1001}, "trials", "less than or equal to 1000"),
        ({"trials": 2}, "trials", "a grid has a trial for each combination"),
        ({"metric": "bleu"}, "metric", "measures no such figure. It may measure: "),
        ({"halving": {"first_steps": 50}, "spec": {**SPEC, "training": {"epochs": 2}}}, "halving", "epochs: auto"),
        ({"spec": {**SPEC, "modle": "x"}}, "spec.modle", "unknown field"),
        ({"spec": {**SPEC, "kind": "train"}}, "spec.kind", "is no job kind"),
        ({"spec": {**SPEC, "test": {"dataset": "x@1"}}, "confirm": {"fraction": 0.1}}, "confirm", "Remove one"),
        ({"max_time": "soon"}, "max_time", "is not a duration"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(changes: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_sweep(sweep(**changes))
    found = {str(problem.field): str(problem) for problem in refused.value.problems}
    assert field in found and said in found[field], found


def test_a_list_of_a_million_values_is_refused_for_its_length_unread() -> None:
    class Costly(int):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = int.__hash__

    with pytest.raises(InvalidInput, match="1,000,000 values; at most 1,000 are allowed"):
        parse_sweep(sweep(over={"training.seed": [Costly(1), *[Costly(2)] * 999_999]}))


def test_a_combination_that_no_spec_allows_is_named() -> None:
    llm = {"kind": "finetune-llm", "name": "m", "model": "b@1", "dataset": "d@1"}
    over = {"tuning": ["lora", "full"], "output": ["merged", "adapter"]}
    with pytest.raises(InvalidInput) as refused:
        parse_sweep(sweep(llm, over=over))
    assert "the combination tuning=full, output=adapter is refused" in str(refused.value)
    assert parse_sweep(sweep(llm, over={"training.batch_size": [4, 8]})).goal == "min"


def test_a_sweep_is_no_job() -> None:
    with pytest.raises(InvalidInput, match="a sweep is no job, but many"):
        parse_spec(sweep())


@given(low=st.integers(0, 50), length=st.integers(1, 50), step=st.integers(1, 9), share=st.floats(0, 1))
def test_every_point_of_a_range_is_within_it(low: int, length: int, step: int, share: float) -> None:
    whole = Dimension("a", Range(low=low, high=low + length, step=step))
    assert whole.size == length // step + 1
    assert [whole.value(index) for index in range(whole.size)] == list(range(low, low + length + 1, step))
    exact = Dimension("a", Range(low=low + 0.5, high=low + 0.5 + length))
    assert exact.size is None and low + 0.5 <= exact.at(share) <= low + 0.5 + length
    log = Dimension("a", Range(low=low + 1, high=low + 1 + length, scale="log"))
    assert low + 1 <= log.at(share) <= low + 1 + length and isinstance(log.at(share), int)


def test_a_grid_has_every_combination_once_and_chance_repeats_none() -> None:
    over = {"training.batch_size": [8, 16], "training.warmup_fraction": {"low": 0.0, "high": 0.3, "step": 0.1}}
    grid = parse_sweep(sweep(over=over))
    found = [grid.point(number) for number in range(1, grid.trials + 1)]
    assert grid.trials == points(grid.dimensions) == 8 and found[1] == point(grid.dimensions, 1)
    assert [values["training.warmup_fraction"] for values in found if values][:4] == [0.0, 0.1, 0.2, 0.3]
    drawn = parse_sweep(sweep(over=over, method="random", trials=50))
    assert drawn.trials == 8
    assert sorted(map(str, (drawn.point(number) for number in range(1, 9)))) == sorted(map(str, found))
    endless = parse_sweep(sweep(over={"training.learning_rate": LOG}, method="random", trials=200))
    values = [endless.point(number) for number in range(1, 201)]
    rates = [one["training.learning_rate"] for one in values if one]
    assert values[3] == endless.point(4) and len({*rates}) > 190
    # Each power of ten has the same chance.
    assert 80 < sum(rate < 1e-4 for rate in rates) < 120


def test_values_are_put_where_they_belong_and_nothing_else_is_changed() -> None:
    spec = {"training": {"epochs": 1}, "model": "a"}
    made = with_values(spec, {"training.learning_rate": 1e-5, "lora.rank": 4, "model": "b"})
    assert made == {"training": {"epochs": 1, "learning_rate": 1e-5}, "lora": {"rank": 4}, "model": "b"}
    assert spec == {"training": {"epochs": 1}, "model": "a"}
    assert Halving(first_steps=50, factor=4).rungs()[:3] == (50, 200, 800)

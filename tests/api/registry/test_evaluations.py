"""What jobs have found of a model version, beside it: for whoever may read the rows."""

from __future__ import annotations

from jobspecs.evaluation import EvaluationReport
from jobspecs.frozen import FrozenRegistryModel
from jobspecs.references import parse_reference
from storage.frozen_versions import frozen_version
from tests.api.conftest import Api

MODELS = "/v1/registry/models"


def evaluated(api: Api, model: str, result: str, accuracy: float) -> None:
    """Says that a job has found this accuracy of `model`, and made the data set `result` of it."""
    figures = {"accuracy": {"value": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}}
    one = {"reference": model, "figures": figures, "judged": 20, "unit": "rows"}
    report = {"task": "classification", "dataset": f"{api.user}/headlines@1", "models": {"model": one}}
    with api.database.unit_of_work() as work:
        row = work.models.find(api.reach(), parse_reference(model))
        made = work.datasets.find(api.reach(), parse_reference(result))
        assert row is not None and made is not None
        frozen = frozen_version(work, row)
        assert isinstance(frozen, FrozenRegistryModel)
        work.evaluations.add(made, EvaluationReport.model_validate(report), {"model": frozen})


def prepared(api: Api) -> None:
    api.push()
    for name in ("first", "second"):
        api.push(name)
    api.import_model()
    api.import_model(files={"config.json": b'{"model_type": "bert", "hidden_size": 4}'})
    evaluated(api, "tiny@1", "first@1", 0.5)
    evaluated(api, "tiny@1", "second@1", 0.75)
    evaluated(api, "tiny@2", "second@1", 0.25)


def test_evaluations_stand_beside_a_version_in_its_card_and_in_comparisons(api: Api) -> None:
    prepared(api)
    version = api.client.get(f"{MODELS}/{api.user}/tiny/versions/1").json()
    assert [one["result"] for one in version["evaluations"]] == [f"{api.user}/second@1", f"{api.user}/first@1"]
    assert version["evaluations"][0]["figures"]["accuracy"] == {"value": 0.75, "low": 0.65, "high": 0.85}
    card = api.client.get(f"{MODELS}/{api.user}/tiny/versions/1/card").text
    assert "## Evaluations" in card and f"| {api.user}/headlines@1 | accuracy | 0.75 | 0.65 to 0.85 | 20 rows |" in card
    compared = api.client.get("/v1/registry/comparison", params={"first": "tiny@1", "second": "tiny@2"}).json()
    (figure,) = [one for one in compared["figures"] if "accuracy" in one["name"]]
    assert figure["name"] == f"{api.user}/headlines@1: accuracy"
    assert (figure["first"], figure["second"], figure["second_high"]) == (0.75, 0.25, 0.35)


def test_who_may_read_the_model_alone_is_not_told_what_was_found_on_the_data(api: Api) -> None:
    prepared(api)
    path = f"{MODELS}/{api.user}/tiny"
    assert api.client.patch(path, json={"visibility": "everyone"}).status_code == 200
    with api.as_user(api.new_user()) as other:
        assert other.get(f"{path}/versions/1").json()["evaluations"] == []
        assert "Evaluations" not in other.get(f"{path}/versions/1/card").text
    assert api.client.delete(f"/v1/datasets/{api.user}/second/versions/1").status_code == 200
    kept = api.client.get(f"{path}/versions/1").json()["evaluations"]
    assert [one["result"] for one in kept] == [f"{api.user}/first@1"]


def test_a_condition_falls_back_on_what_evaluations_found(api: Api) -> None:
    prepared(api)
    with api.database.unit_of_work() as work:
        row = work.models.find(api.reach(), parse_reference("tiny@1"))
        assert row is not None
        found = work.evaluations.figures_of(api.reach(), row.id)
    assert (found["evaluation/accuracy"], found["evaluation/accuracy_low"]) == (0.75, 0.65)
    deploy = {"kind": "alias", "model": "tiny@2", "alias": "prod", "when": "$now.accuracy.low > 0.6"}
    document = {"kind": "pipeline", "name": "p", "models": {"now": "tiny@1"}, "steps": {"move": deploy}}
    answer = api.client.post("/v1/pipelines/check", json=document)
    assert answer.status_code == 200, answer.text
    wrong = {**document, "steps": {"move": {**deploy, "when": "$now.spearman > 0"}}}
    assert "evaluation/accuracy" in api.client.post("/v1/pipelines/check", json=wrong).text

"""What submit, check and estimate find out about the data before anything is queued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from corpus.checks import confined
from jobspecs.frozen import FrozenInputs
from tests.api.conftest import HEADLINES, SPEC, Api, RunApi
from tests.chat_models import chat_files
from tests.models import build_tiny_tokenizer

CONFIG = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 120,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tiny_tokenizer().save_pretrained(folder)
    return (folder / "tokenizer.json").read_bytes()


@pytest.fixture
def readable(api: Api, tokenizer_file: bytes) -> Api:
    """An API whose user has a data set, and a model with a tokenizer and sizes."""
    api.push()
    api.import_model(files={"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": tokenizer_file})
    return api


def rows(count: int, text: str = "Headline number {n}") -> str:
    return "headline,quality\n" + "".join(f"{text.format(n=n)},{'good' if n % 2 else 'bad'}\n" for n in range(count))


def test_a_check_reads_every_row_with_the_models_tokenizer_and_queues_nothing(readable: Api) -> None:
    answer = readable.client.post("/v1/jobs/check", json=SPEC)
    report = answer.json()
    assert answer.status_code == 200, report
    assert (report["rows"], report["usable"], report["complete"]) == (20, 20, True)
    assert report["tokens"]["counted_by"] == "tokenizer"
    assert report["classes"] == {"bad": 10, "good": 10}
    assert report["held_out"]["train"] + report["held_out"]["validation"] == 20
    assert readable.client.get("/v1/jobs").json()["data"] == []


def test_a_model_whose_template_does_not_end_holds_nobody_up(
    readable: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(confined, "_LOAD_S", -12)
    nested = "{% for n in range(9999) %}" * 3 + "{% endfor %}" * 3
    readable.import_model("endless", {**chat_files(tmp_path, nested), "config.json": json.dumps(CONFIG).encode()})
    readable.push("chats", '{"prompt": "Hi", "completion": "Hello"}\n' * 20, "chats.jsonl")
    spec = {"kind": "finetune-llm", "name": "tuned", "model": "endless", "dataset": "chats"}
    report = readable.client.post("/v1/jobs/check", json=spec).json()
    assert report["complete"] is False
    assert "too much time or memory" in report["warnings"][0]["message"]


def test_wasteful_data_are_accepted_with_warnings_that_stay_with_the_job(readable: Api) -> None:
    readable.push("repeated", "headline,quality\n" + rows(40).split("\n", 1)[1] * 5)
    job = readable.submit(dataset="repeated")
    assert any("repeat an earlier one" in warning["message"] for warning in job["warnings"])
    assert readable.client.get(f"/v1/jobs/{job['id']}").json()["warnings"] == job["warnings"]


def test_data_that_cannot_work_are_told_by_check_and_refused_at_submit(readable: Api) -> None:
    """The profile does not see it: 70 classes of two rows each can't be sampled down to 100 rows."""
    many = "headline,quality\n" + "".join(f"Headline {n},class {n % 70}\n" for n in range(140))
    readable.push("many", many)
    spec = {**SPEC, "dataset": "many", "rows": 100}
    report = readable.client.post("/v1/jobs/check", json=spec).json()
    assert [problem["field"] for problem in report["problems"]] == ["rows"]
    refused = readable.client.post("/v1/jobs", json=spec)
    assert refused.status_code == 422
    assert "can't hold" in refused.json()["error"]["message"]


def test_an_empty_cell_is_in_the_report_with_its_row(readable: Api) -> None:
    readable.push("holes", HEADLINES + " ,good\n")
    report = readable.client.post("/v1/jobs/check", json={**SPEC, "dataset": "holes"}).json()
    assert [problem["row"] for problem in report["refused_rows"]] == [21]
    assert report["problems"][0]["row"] == 21


def test_an_estimate_has_memory_by_part_and_a_band_and_is_kept_with_the_job(readable: Api) -> None:
    made = readable.client.post("/v1/jobs/estimate", json=SPEC).json()
    assert made["parameters"] > made["trainable_parameters"] > 0
    assert made["main_memory"]["weights"] > 0
    assert 0 < made["duration"]["low_s"] < made["duration"]["high_s"]
    assert made["assumptions"] == []
    job = readable.submit()
    assert job["estimate"] == made
    assert job["memory_bytes"] > sum(made["main_memory"].values())


def test_a_model_without_a_tokenizer_is_estimated_and_that_is_said(ready: Api) -> None:
    report = ready.client.post("/v1/jobs/check", json=SPEC).json()
    assert report["tokens"]["counted_by"] == "characters"
    made = ready.client.post("/v1/jobs/estimate", json=SPEC).json()
    assert "not known" in made["assumptions"][0]


def test_a_large_data_set_is_left_to_the_jobs_first_stage(run_api: RunApi) -> None:
    with run_api(check_bytes_max=100) as api:
        api.push()
        api.import_model()
        job = api.submit()
        assert "first stage" in job["warnings"][0]["message"]
        report = api.client.post("/v1/jobs/check", json=SPEC).json()
        assert not report["complete"]
        assert report["settings"]["epochs"] == "auto (at most about 40)"
        with api.database.unit_of_work() as work:
            row = work.jobs.get(UUID(job["id"]))
            assert row is not None
            assert not FrozenInputs.model_validate(row.inputs).checked


def test_a_check_that_takes_too_long_is_broken_off_and_the_job_does_the_rest(run_api: RunApi) -> None:
    with run_api(check_seconds_max=0.0) as api:
        api.push("long", rows(5000))
        api.import_model()
        job = api.submit(dataset="long")
        assert any("first" in warning["message"] for warning in job["warnings"])
        with api.database.unit_of_work() as work:
            row = work.jobs.get(UUID(job["id"]))
            assert row is not None
            assert not FrozenInputs.model_validate(row.inputs).checked


def test_a_spec_that_is_none_is_refused_by_check_and_estimate(ready: Api) -> None:
    for path in ("check", "estimate"):
        answer = ready.client.post(f"/v1/jobs/{path}", json={**SPEC, "model": "absent"})
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("text", {"text": "txt"}),
        ("label", {"label": "txt"}),
        ("anchor", {"kind": "train-embedder", "anchor": "txt", "positive": "headline"}),
        ("passage", {"kind": "train-reranker", "query": "headline", "passage": "txt", "label": "quality"}),
        ("pair", {"kind": "score-pairs", "pair": ["headline", "txt"], "teacher": "tiny"}),
        ("data.prompt", {"kind": "finetune-llm", "data": {"prompt": "{txt}", "completion": "{headline}"}}),
    ],
)
def test_a_column_that_is_not_there_is_told_alike_by_check_estimate_and_submit(
    ready: Api, field: str, changes: dict[str, Any]
) -> None:
    kind = changes.get("kind", SPEC["kind"])
    own = ("name", "dataset") if "teacher" in changes else ("name", "model", "dataset")
    base = SPEC if kind == SPEC["kind"] else {name: SPEC[name] for name in own}
    answers = [ready.client.post(f"/v1/jobs{path}", json={**base, **changes}) for path in ("/check", "/estimate", "")]
    assert [answer.status_code for answer in answers] == [200, 422, 422]
    told = [answers[0].json()["problems"], *(answer.json()["error"]["problems"] for answer in answers[1:])]
    assert [(problem["field"], problem["remedy"]) for (problem,) in told] == [
        (field, "Its columns are: headline, quality.")
    ] * 3


def test_a_model_of_another_task_is_refused_before_it_is_queued(readable: Api) -> None:
    config = json.dumps({**CONFIG, "architectures": ["BertForSequenceClassification"], "num_labels": 2}).encode()
    readable.import_model("labels", files={"config.json": config})
    spec = {"kind": "predict", "name": "said", "dataset": "headlines@1", "text": "headline"}
    assert readable.client.post("/v1/jobs/check", json={**spec, "model": "labels@1"}).status_code == 200
    for changes in ({"model": "tiny@1"}, {"model": "labels@1", "text": None, "pair": ["headline", "quality"]}):
        answer = readable.client.post("/v1/jobs", json={**spec, **changes})
        assert answer.status_code == 422 and " is for a" in answer.text, answer.text
    assert readable.client.get("/v1/jobs").json()["data"] == []

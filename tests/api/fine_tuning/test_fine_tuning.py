"""/v1/fine_tuning/jobs, driven by OpenAI's own client; the worker is played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import openai
import pytest

from jobspecs.events import ChildEvent, LogEvent, MetricEvent, ProgressEvent, StageEvent
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import Api
from tests.api.playing import finish, give_back, record
from tests.chat_models import CHATML, chat_files

CHATS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"How much is {n}?"}, {"role": "assistant", "content": "2"}]})
    + "\n"
    for n in range(6)
).encode()
PAIRS = "".join(
    json.dumps(
        {
            "input": {"messages": [{"role": "user", "content": f"How much is {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": "Two"}],
            "non_preferred_output": [{"role": "assistant", "content": "Three"}],
        }
    )
    + "\n"
    for n in range(6)
).encode()


@pytest.fixture
def client(api: Api, tmp_path: Path) -> Iterator[Any]:
    config = json.dumps({"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 300})
    api.import_model("tiny", {**chat_files(tmp_path, CHATML), "config.json": config.encode()})
    token = api.client.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=token, max_retries=0) as client:
        yield client


def file_of(client: Any, content: bytes = CHATS) -> str:
    file_id: str = client.files.create(file=("train.jsonl", content), purpose="fine-tune").id
    return file_id


def test_a_fine_tuning_job_is_a_job(api: Api, client: Any) -> None:
    file = file_of(client)
    method = {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
    }
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file,
        suffix="Short answers",
        seed=7,
        metadata={"team": "blue"},
        method=method,
        extra_body={"lora": {"rank": 4}, "training": {"max_length": 64}, "validation": {"fraction": 0.2}},
    )
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", "tiny", 7)
    assert (job.training_file, job.fine_tuned_model, job.metadata) == (file, None, {"team": "blue"})
    said = {"n_epochs": 2, "batch_size": 16, "learning_rate_multiplier": 0.5}
    assert job.method.supervised.hyperparameters.model_dump() == said
    own = api.client.get(f"/v1/jobs/{job.job_id}").json()
    assert (own["kind"], own["name"]) == ("finetune-llm", "ft-tiny-Short-answers")
    training = own["spec"]["training"]
    assert (training["epochs"], training["learning_rate"], training["seed"]) == (2, 1e-4, 7)
    assert (training["batch_size"], training["max_length"], own["spec"]["lora"]["rank"]) == (16, 64, 4)
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"team": "blue"})] == [job.id]
    assert list(client.fine_tuning.jobs.list(metadata={"team": "red"})) == []
    for spelt in ({"te\0am": "blue"}, {"team": "\0"}):
        with pytest.raises(openai.BadRequestError, match="NUL"):
            client.fine_tuning.jobs.list(metadata=spelt)
    with pytest.raises(openai.ConflictError, match="in use"):
        client.files.delete(file)


def test_auto_is_what_a_spec_without_the_field_gets_and_dpo_reads_pairs(api: Api, client: Any) -> None:
    hyperparameters = {"n_epochs": "auto", "beta": 0.2, "learning_rate_multiplier": "auto"}
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file_of(client, PAIRS),
        validation_file=file_of(client, PAIRS + PAIRS.splitlines(True)[0].replace(b"much", b"many")),
        method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}},
    )
    assert job.method.dpo.hyperparameters.model_dump() == {
        "n_epochs": 1,
        "batch_size": 16,
        "beta": 0.2,
        "learning_rate_multiplier": 1,
    }
    spec = api.client.get(f"/v1/jobs/{job.job_id}").json()["spec"]
    assert (spec["objective"], spec["training"]["learning_rate"], spec["training"]["beta"]) == ("dpo", 1e-5, 0.2)
    assert spec["validation"]["dataset"] == client.files.retrieve(job.validation_file).dataset


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "gpt-4o-mini"}, "model", "no model gpt-4o-mini"),
    ({"training_file": "file-x"}, "training_file", "no file file-x"),
    ({"validation_file": "file-x"}, "validation_file", "no file file-x"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than 0"),
    ({"hyperparameters": {"lora_r": 8}}, "hyperparameters.lora_r", "unknown field"),
    ({"method": {"type": "reinforcement"}}, "method", "is not served"),
    ({"method": {"type": "dpo"}}, "training_file", "are not data for dpo"),
    ({"suffix": "x" * 65}, "suffix", "64"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "16"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "0 items"),
    ({"extra_body": {"trianing": {}}}, "trianing", "unknown field"),
    ({"extra_body": {"training": {"seed": 1}}, "seed": 2}, "training.seed", "already"),
    ({"extra_body": {"training": {"batch_size": 0}}}, "training.batch_size", "greater than or equal"),
]


def test_what_cannot_work_is_refused_with_the_field_that_was_written(client: Any) -> None:
    said = {"model": "tiny", "training_file": file_of(client)}
    for change, param, words in REFUSED:
        with pytest.raises(openai.BadRequestError, match=words) as refused:
            client.fine_tuning.jobs.create(**{**said, **change})
        assert refused.value.param == param, change
    assert list(client.fine_tuning.jobs.list()) == []


def test_rows_that_are_no_conversations_are_refused_with_their_line(client: Any) -> None:
    wrong = file_of(client, CHATS + b'{"messages": [{"role": "robot", "content": "x"}]}\n')
    with pytest.raises(openai.BadRequestError, match="row 7") as refused:
        client.fine_tuning.jobs.create(model="tiny", training_file=wrong)
    assert refused.value.body["problems"][0]["row"] == 7  # type: ignore[index]


def test_events_come_newest_first_and_page_by_page(api: Api, client: Any) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_of(client))
    said: list[ChildEvent] = [
        StageEvent(stage="train"),
        LogEvent(message="of no account"),
        *(ProgressEvent(stage="train", step=n, steps_total=4, loss=4.0 - n) for n in range(1, 4)),
        LogEvent(level="warning", message="careful"),
        MetricEvent(name="validation/loss", value=0.5, step=4),
    ]
    record(api, {"id": job.job_id}, said)
    give_back(api, {"id": job.job_id}, Reason.invalid_model)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    assert events[0].message.startswith("The job is failed (invalid_model")
    assert (events[0].level, events[0].type) == ("error", "message")
    assert events[-1].message == "The job is queued."
    shown = [event for event in events if event.type == "metrics"]
    assert shown[0].data == {"step": 4, "validation/loss": 0.5}
    assert shown[1].message == "Step 3/4: training loss=1"
    assert [event.level for event in events if event.message == "careful"] == ["warn"]
    assert len(events) == 11
    for limit in (1, 2, 3):
        assert [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=limit)] == [
            event.id for event in events
        ]
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert (failed.status, failed.error.code, failed.error.param) == ("failed", "invalid_model", None)
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.list_events(job.id, after="ftevent-x")
    assert refused.value.param == "after"


def test_a_job_is_paused_resumed_and_cancelled(api: Api, client: Any) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_of(client))
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    record(api, {"id": job.job_id}, [StageEvent(stage="train")])
    assert client.fine_tuning.jobs.pause(job.id).status == "running", "until its host has stopped it"
    give_back(api, {"id": job.job_id})
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.resume(job.id)


def test_checkpoints_are_those_that_are_stored_and_at_the_end_the_model(api: Api, client: Any) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_of(client))
    record(api, {"id": job.job_id}, [ProgressEvent(stage="train", step=2, steps_total=4, loss=1.5)])
    stored = Manifest(artifact="checkpoint", files=(ManifestFile(path="state", bytes=1, sha256="0" * 64),))
    with api.database.unit_of_work() as work:
        for step in (1, 2):
            assert work.checkpoints.add(UUID(job.job_id), 1, step, prefix=f"checkpoints/x/{step}", manifest=stored)
    pages = client.fine_tuning.jobs.checkpoints.list(job.id, limit=1)
    assert [checkpoint.step_number for checkpoint in pages] == [2, 1]
    first = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    assert (first.metrics.train_loss, first.fine_tuned_model_checkpoint) == (1.5, None)
    files = (ManifestFile(path="adapter_model.safetensors", bytes=1, sha256="0" * 64),)
    report = {"training": {"steps": 4, "tokens": 100}}
    made = Manifest(artifact="model", task="text-generation", files=files, metrics={"train/loss": 1.0}, report=report)
    finish(api, {"id": job.job_id}, made)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model) == ("succeeded", f"{api.user}/ft-tiny@1")
    assert done.trained_tokens == 100
    assert done.finished_at
    last = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    assert (last.fine_tuned_model_checkpoint, last.step_number) == (done.fine_tuned_model, 4)


def test_jobs_are_listed_page_by_page_and_others_jobs_do_not_exist(api: Api, client: Any) -> None:
    file = file_of(client)
    jobs = [client.fine_tuning.jobs.create(model="tiny", training_file=file).id for _ in range(3)]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == jobs[::-1]
    with api.as_user(api.new_user("write")) as other:
        assert other.get(f"/v1/fine_tuning/jobs/{jobs[0]}").status_code == 404
        assert other.post(f"/v1/fine_tuning/jobs/{jobs[0]}/cancel").status_code == 404
        assert other.get("/v1/fine_tuning/jobs").json()["data"] == []
        assert other.get("/v1/fine_tuning/jobs", params={"metdata[x]": "y"}).status_code == 400
    with api.as_user(api.new_user("read")) as reader:
        assert reader.post("/v1/fine_tuning/jobs", json={}).status_code == 403

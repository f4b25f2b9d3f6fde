"""How OpenAI's SDK drives a running platform: files, fine-tuning, the model that it made, and batches."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import openai

from tests.conformance.steps import CHAT, EMBEDDER, OWNER, TOKEN, URL, holds, refused, run, same, step

#: Waking a model that was deployed by the first request takes longer than a request waits: the SDK asks again.
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=TOKEN, max_retries=5)
#: Fields that SDKs don't type.
ANY: Any = CLIENT
#: Seconds for a few steps of SmolLM2, or for a batch, on a busy machine.
PATIENCE_S = 600.0
QUESTION = "What does the owl in tree {n} say?"
ANSWER = "Hoo hoo, says the owl."
ROWS = b"".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": QUESTION.format(n=n)},
                {"role": "assistant", "content": ANSWER},
            ]
        }
    ).encode()
    + b"\n"
    for n in range(32)
)
PAIRS = b"".join(
    json.dumps(
        {
            "input": {"messages": [{"role": "user", "content": QUESTION.format(n=n)}]},
            "preferred_output": [{"role": "assistant", "content": ANSWER}],
            "non_preferred_output": [{"role": "assistant", "content": "Moo."}],
        }
    ).encode()
    + b"\n"
    for n in range(8)
)
#: Fields of our own job spec.
SMALL = {"training": {"max_length": 64}, "validation": {"fraction": 0.25}, "generation": {"examples": 0}}
#: What later steps need of earlier ones.
MADE: dict[str, Any] = {}


def until(look: Any, *wanted: str) -> Any:
    """Raises Mismatch for another end, and when it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    ends = {"succeeded", "failed", "cancelled", "completed", "expired", *wanted}
    while (found := look()).status not in ends:
        holds(time.monotonic() < deadline, f"{wanted} in time", found.status)
        time.sleep(0.5)
    holds(found.status in wanted, f"{wanted}", found)
    return found


@step("files.create, retrieve, list, content")
def a_file_is_kept() -> None:
    file = CLIENT.files.create(file=("owls.jsonl", ROWS), purpose="fine-tune")
    same((file.object, file.bytes, file.purpose, file.status), ("file", len(ROWS), "fine-tune", "processed"))
    same(CLIENT.files.wait_for_processing(file.id).id, file.id)
    holds(file.id in [one.id for one in CLIENT.files.list(purpose="fine-tune")], "the file in the list", file.id)
    same(CLIENT.files.content(file.id).read(), ROWS)
    MADE["file"] = file.id


@step("uploads.upload_file_chunked")
def a_file_comes_in_parts() -> None:
    upload = CLIENT.uploads.upload_file_chunked(
        file=PAIRS, filename="pairs.jsonl", bytes=len(PAIRS), mime_type="text/jsonl", purpose="fine-tune", part_size=900
    )
    same(upload.status, "completed")
    assert upload.file is not None
    same(CLIENT.files.content(upload.file.id).read(), PAIRS)
    MADE["pairs"] = upload.file.id


@step("uploads.create, parts.create, cancel")
def an_upload_is_given_up() -> None:
    upload = CLIENT.uploads.create(filename="a.jsonl", bytes=9, mime_type="text/jsonl", purpose="fine-tune")
    CLIENT.uploads.parts.create(upload.id, data=b"{")
    same(CLIENT.uploads.cancel(upload.id).status, "cancelled")
    refused(openai.ConflictError, lambda: CLIENT.uploads.complete(upload.id, part_ids=["part_x"]))


@step("files.create of what is no JSONL")
def a_wrong_line_is_named() -> None:
    wrong: Any = ("wrong.jsonl", b'{"messages": []}\nnonsense\n')
    error = refused(openai.BadRequestError, lambda: CLIENT.files.create(file=wrong, purpose="fine-tune"), "line 2")
    same(error.param, "file")
    ask: Any = ("wrong.jsonl", b'{"custom_id": "1", "method": "GET", "url": "/v1/embeddings", "body": {}}\n')
    refused(openai.BadRequestError, lambda: CLIENT.files.create(file=ask, purpose="batch"), "line 1: it must be POST")


@step("files.delete")
def a_file_is_deleted() -> None:
    file = CLIENT.files.create(file=("gone.jsonl", ROWS), purpose="fine-tune")
    holds(CLIENT.files.delete(file.id).deleted, "deleted", file.id)
    refused(openai.NotFoundError, lambda: CLIENT.files.retrieve(file.id))


@step("fine_tuning.jobs.create: errors")
def what_cannot_be_trained_names_its_field() -> None:
    def made(**said: Any) -> Any:
        return ANY.fine_tuning.jobs.create(**{"model": CHAT, "training_file": MADE["file"], **said})

    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"model": "gpt-4o-mini"}, "model"),
        ({"training_file": "file-x"}, "training_file"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"extra_body": {"trianing": {}}}, "trianing"),
    )
    for said, param in wrong:
        same(refused(openai.BadRequestError, partial(made, **said)).param, param)


@step("fine_tuning.jobs.create(method=supervised, suffix, seed, metadata), pause, resume")
def a_model_is_fine_tuned() -> None:
    hyperparameters = {"n_epochs": 8, "batch_size": 8, "learning_rate_multiplier": 5}
    job = ANY.fine_tuning.jobs.create(
        model=CHAT,
        training_file=MADE["file"],
        suffix="owl",
        seed=3,
        metadata={"animal": "owl"},
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        extra_body={**SMALL, "deploy_on_first_use": True},
    )
    same((job.object, job.status, job.seed), ("fine_tuning.job", "queued", 3))
    ANY.fine_tuning.jobs.pause(job.id)
    until(lambda: ANY.fine_tuning.jobs.retrieve(job.id), "paused")
    ANY.fine_tuning.jobs.resume(job.id)
    done = until(lambda: ANY.fine_tuning.jobs.retrieve(job.id), "succeeded")
    same(done.fine_tuned_model, f"{OWNER}/ft-{CHAT}-owl@1")
    holds(done.trained_tokens > 0, "tokens", done.trained_tokens)
    same([one.id for one in ANY.fine_tuning.jobs.list(metadata={"animal": "owl"})], [job.id])
    MADE["job"], MADE["model"] = job.id, done.fine_tuned_model


@step("fine_tuning.jobs.list_events, checkpoints.list")
def events_tell_of_states_and_losses() -> None:
    events = list(ANY.fine_tuning.jobs.list_events(MADE["job"], limit=3))
    messages = [event.message for event in events]
    same((messages[0], messages[-1]), ("The job is succeeded.", "The job is queued."))
    holds(any(event.type == "metrics" and "train_loss" in event.data for event in events), "losses", messages)
    checkpoint = ANY.fine_tuning.jobs.checkpoints.list(MADE["job"]).data[0]
    same(checkpoint.fine_tuned_model_checkpoint, MADE["model"])


@step("chat.completions.create(model=fine_tuned_model)")
def the_fine_tuned_model_answers() -> None:
    ask: Any = [{"role": "user", "content": QUESTION.format(n=99)}]
    answer = CLIENT.chat.completions.create(model=MADE["model"], messages=ask, max_tokens=12, temperature=0)
    text = answer.choices[0].message.content or ""
    holds(text.startswith("Hoo hoo"), ANSWER, text)


@step("fine_tuning.jobs.create(method=dpo), cancel")
def preferences_are_trained_on_and_a_job_is_cancelled() -> None:
    hyperparameters = {"n_epochs": "auto", "beta": 0.2}
    job = ANY.fine_tuning.jobs.create(
        model=CHAT,
        training_file=MADE["pairs"],
        method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}},
        extra_body=SMALL,
    )
    same(job.method.dpo.hyperparameters.beta, 0.2)
    same(job.method.dpo.hyperparameters.n_epochs, 1)
    ANY.fine_tuning.jobs.cancel(job.id)
    until(lambda: ANY.fine_tuning.jobs.retrieve(job.id), "cancelled")


def requests(url: str, *bodies: dict[str, Any]) -> str:
    lines = [{"custom_id": str(n), "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return CLIENT.files.create(file=("ask.jsonl", content), purpose="batch").id


@step("batches.create, retrieve, list")
def a_batch_of_chats_is_answered() -> None:
    chat = {"model": CHAT, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 3, "temperature": 0}
    file = requests("/v1/chat/completions", chat, {**chat, "max_tokens": "many"}, chat)
    batch = CLIENT.batches.create(
        input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "owls"}
    )
    done = until(lambda: CLIENT.batches.retrieve(batch.id), "completed")
    counts = done.request_counts
    same((counts.total, counts.completed, counts.failed), (3, 2, 1))
    answers = [json.loads(line) for line in CLIENT.files.content(done.output_file_id).read().splitlines()]
    same([answer["custom_id"] for answer in answers], ["0", "2"])
    direct = ANY.chat.completions.create(**chat)
    same(answers[0]["response"]["body"]["choices"][0]["message"]["content"], direct.choices[0].message.content)
    (wrong,) = CLIENT.files.content(done.error_file_id).read().splitlines()
    same(json.loads(wrong)["response"]["body"]["error"]["param"], "max_tokens")
    holds(batch.id in [one.id for one in CLIENT.batches.list()], "the batch in the list", batch.id)


@step("batches.create(endpoint=/v1/embeddings)")
def a_batch_of_embeddings_is_answered() -> None:
    file = requests("/v1/embeddings", *({"model": EMBEDDER, "input": text} for text in ("an owl", "a cow")))
    batch = CLIENT.batches.create(input_file_id=file, endpoint="/v1/embeddings", completion_window="24h")
    done = until(lambda: CLIENT.batches.retrieve(batch.id), "completed")
    same(len(CLIENT.files.content(done.output_file_id).read().splitlines()), 2)


@step("batches.create of an unknown model")
def a_batch_that_cannot_be_begun_names_its_line() -> None:
    file = requests("/v1/embeddings", {"model": EMBEDDER, "input": "x"}, {"model": "absent", "input": "x"})
    batch = CLIENT.batches.create(input_file_id=file, endpoint="/v1/embeddings", completion_window="24h")
    failed = until(lambda: CLIENT.batches.retrieve(batch.id), "failed")
    same([(error.line, error.code) for error in failed.errors.data], [(2, "model_not_found")])


@step("batches.cancel")
def an_ended_batch_is_not_cancelled() -> None:
    ended = next(iter(CLIENT.batches.list()))
    refused(openai.ConflictError, lambda: CLIENT.batches.cancel(ended.id), "nothing to cancel")


if __name__ == "__main__":
    run()

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from eigenwerk import Client, Event
from eigenwerk.cli.application import app
from tests.client.conftest import Outcome
from tests.client.documents import (
    JOB_ID,
    deployment,
    error,
    event,
    failed_job,
)
from tests.client.every_command import CALLS, HOST, LINES, answers
from tests.client.stub import Answer, Request, StubPlatform

Run = Callable[..., Outcome]


@pytest.fixture
def full_platform(platform: StubPlatform) -> StubPlatform:
    """Answers everything with success."""
    platform.answers |= answers()
    return platform


@pytest.fixture
def arguments_of(tmp_path: Path) -> Callable[[str], list[str]]:
    """The working call of a command, with files in place."""
    spec, table, model = tmp_path / "spec.yaml", tmp_path / "headlines.csv", tmp_path / "model"
    spec.write_text("kind: train-classifier\ntraining:\n  epoch: 1\n")
    table.write_text("headline,quality\na,good\n")
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    places = {"SPEC": spec, "CSV": table, "MODEL": model, "TARGET": tmp_path / "target"}

    def arguments(command: str) -> list[str]:
        return [str(places.get(word, word)) for word in CALLS[command]]

    return arguments


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its path."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


def test_every_command_has_a_help_with_an_example_and_the_option_json() -> None:
    found = dict(commands())
    assert {"up", "submit", "jobs", "show", "logs", "cancel", "datasets push", "models", "download"} <= found.keys()
    assert {"deploy", "undeploy", "classify", "chat"} <= found.keys()
    for path, command in found.items():
        assert f"Example: eigenwerk {path.split()[0]}" in command.help, path
        if path != "users":
            assert "--json" in {name for parameter in command.params for name in parameter.opts}, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{path}: {parameter.name}"


def test_every_command_that_talks_to_the_platform_is_tried_here() -> None:
    # In tests/api/datasets/test_pulled_datasets.py, with a hub, tests/workers/inference/test_joined_worker.py,
    # tests/deploy/test_environments.py and tests/api/test_mcp.py.
    elsewhere = {"datasets pull", "mcp", "worker", "inference", "env", "env build", "env list"}
    assert {path for path, _ in commands()} - {"up", "users", "backup", "restore", *elsewhere} == CALLS.keys()


@pytest.mark.parametrize("command", CALLS)
@pytest.mark.usefixtures("full_platform")
def test_a_command_works_and_prints_for_people(
    command: str, run: Run, arguments_of: Callable[[str], list[str]]
) -> None:
    outcome = run(*arguments_of(command))
    assert outcome.code == 0, outcome.err
    assert outcome.out
    # The played answer of a model has an escape sequence, which stands so where people read it.
    assert "�" not in outcome.out.replace("�[31m", ""), "a line end within a line"


@pytest.mark.parametrize("command", CALLS)
@pytest.mark.usefixtures("full_platform")
def test_with_json_stdout_holds_nothing_but_json(
    command: str, run: Run, arguments_of: Callable[[str], list[str]]
) -> None:
    outcome = run(*arguments_of(command), "--json")
    assert outcome.code == 0, outcome.err
    documents = [json.loads(line) for line in outcome.out.splitlines()]
    assert documents
    assert command in LINES or len(documents) == 1


@pytest.mark.parametrize("command", CALLS)
def test_a_platform_that_is_away_is_one_line_on_stderr(
    command: str,
    run: Run,
    arguments_of: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EIGENWERK_URL", raising=False)
    outcome = run(*arguments_of(command))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: No platform is known")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit"], "error: Missing argument 'SPEC'. See: eigenwerk submit --help\n"),
        (["frobnicate"], "error: No such command 'frobnicate'. See: eigenwerk --help\n"),
        (["jobs", "--nope"], "error: No such option: --nope. See: eigenwerk jobs --help\n"),
        (
            ["tokens", "create", "--scope", "all"],
            "error: Invalid value for '--scope': 'all' is not one of 'read', 'write', 'metrics', 'join', 'admin'. "
            "See: eigenwerk tokens create --help\n",
        ),
    ],
)
def test_wrong_usage_is_one_line_with_exit_code_2(arguments: list[str], message: str, run: Run) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", message)


def test_without_arguments_the_help_is_shown_as_usage_error(run: Run) -> None:
    outcome = run()
    assert outcome.code == 2
    assert "Commands:" in outcome.err
    assert len(outcome.err.splitlines()) > 10


def test_problems_of_a_spec_are_shown_with_file_and_line(
    platform: StubPlatform, run: Run, arguments_of: Callable[[str], list[str]]
) -> None:
    problems = [
        {"message": "unknown field.", "field": "training.epoch"},
        {"message": "the field is missing.", "field": "dataset"},
    ]
    platform.answers["POST /v1/jobs"] = (422, error("two problems", "invalid_input", problems))
    arguments = arguments_of("submit")
    outcome = run(*arguments)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        f"error: {arguments[1]}:3: field training.epoch: unknown field.",
        f"error: {arguments[1]}: field dataset: the field is missing.",
    ]


def test_submit_sends_the_spec_with_a_key_and_the_token(
    full_platform: StubPlatform, run: Run, arguments_of: Callable[[str], list[str]]
) -> None:
    assert run(*arguments_of("submit")).out == f"{JOB_ID}\n"
    (request,) = full_platform.requests
    assert json.loads(request.body) == {"kind": "train-classifier", "training": {"epoch": 1}}
    assert request.headers["Idempotency-Key"]
    assert request.headers["Authorization"] == "Bearer ew_test"


@pytest.mark.usefixtures("full_platform")
def test_submit_and_watch_ends_with_the_verdict(run: Run, arguments_of: Callable[[str], list[str]]) -> None:
    outcome = run(*arguments_of("submit"), "--watch")
    assert outcome.code == 0, outcome.err
    assert "admin/newsticker-quality@1" in outcome.out
    assert "TF-IDF + linear SVM  70.0%     65.0% to 75.0%" in outcome.out
    assert "Fine-tuning helped" in outcome.out


@pytest.mark.usefixtures("full_platform")
def test_submit_watch_json_is_json_lines_from_submission_to_result(
    run: Run, arguments_of: Callable[[str], list[str]]
) -> None:
    outcome = run(*arguments_of("submit"), "--watch", "--json")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line["type"] for line in lines] == ["submitted", "state", "end", "result"]
    assert lines[-1]["data"]["result"]["version"] == 1


@pytest.mark.parametrize("command", [["watch"], ["logs", "-f"]])
def test_watching_a_job_that_fails_ends_with_exit_code_1_and_the_remedy(
    command: list[str], platform: StubPlatform, run: Run
) -> None:
    platform.answers |= {
        f"GET /v1/jobs/{JOB_ID}": (200, failed_job()),
        f"GET /v1/jobs/{JOB_ID}/events": (200, event("2.1-1", "end", state="failed").encode()),
    }
    outcome = run(*command, JOB_ID)
    assert outcome.code == 1
    assert outcome.err == "error: Job 3f2a91c0 failed (nan_loss: the loss was NaN at step 3). Lower learning_rate.\n"


@pytest.mark.parametrize(("command", "again"), [(["watch"], f"watch {JOB_ID}"), (["logs", "-f"], f"logs -f {JOB_ID}")])
def test_ctrl_c_stops_watching_and_says_how_to_go_on(
    command: list[str], again: str, platform: StubPlatform, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Client, job_id: str, *, after: str | None = None) -> Iterator[Event]:
        yield Event("1.0-0", "state", {"state": "queued"})
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "watch", interrupted)
    outcome = run(*command, JOB_ID)
    assert outcome.code == 130
    assert outcome.err == f"Stopped watching; job 3f2a91c0 goes on. Watch it again: eigenwerk {again}\n"
    assert not platform.requests


def test_a_job_that_has_written_no_log_is_said_to_be_silent(full_platform: StubPlatform, run: Run) -> None:
    full_platform.answers[f"GET /v1/jobs/{JOB_ID}/logs"] = (200, {"data": [], "has_more": False, "cursor": "0-0"})
    for command in (["logs"], ["logs", "-f"]):
        outcome = run(*command, JOB_ID)
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err == "The job has written no log; it is succeeded. See: eigenwerk show 3f2a91c0\n"


def test_how_long_a_deployment_may_be_idle_is_told_in_words(full_platform: StubPlatform, run: Run) -> None:
    full_platform.answers["PUT /v1/deployments/newsticker-quality"] = (202, deployment())
    assert run("deploy", "newsticker-quality", "--idle", "30m", "--no-wait").code == 0
    assert json.loads(full_platform.requests[-1].body)["idle_after_s"] == 1800
    wrong = run("deploy", "newsticker-quality", "--idle", "soon")
    assert wrong.code == 1
    assert "--idle" in wrong.err
    assert "30m" in wrong.err


def test_a_deployment_may_serve_a_given_version(full_platform: StubPlatform, run: Run) -> None:
    full_platform.answers["PUT /v1/deployments/newsticker-quality"] = (202, deployment())
    assert run("deploy", "newsticker-quality@1", "--no-wait").code == 0
    assert json.loads(full_platform.requests[-1].body) == {"model": "newsticker-quality@1", "replicas": 1}


def test_classify_reads_stdin_in_portions(platform: StubPlatform, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Answer:
        texts = json.loads(request.body)["input"]
        return 200, {"model": "m", "version": 1, "results": [[{"label": "good", "score": 0.5}] for _ in texts]}

    platform.answers["POST /v1/classify"] = answer
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"text {number}\n" for number in range(300))))
    outcome = run("classify", "m", "-")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[299] == "good\t0.500\ttext 299"
    assert [len(json.loads(request.body)["input"]) for request in platform.requests] == [256, 44]


def test_a_token_is_shown_alone_on_stdout(full_platform: StubPlatform, run: Run) -> None:
    outcome = run("tokens", "create", "--scope", "read", "--expires-in", "30d")
    assert outcome.out == "ew_abcdefgh\n"
    assert json.loads(full_platform.requests[-1].body) == {"scopes": ["read"], "expires_in": "30d"}


def test_empty_lists_say_what_to_do_next(platform: StubPlatform, run: Run) -> None:
    platform.answers["GET /v1/jobs"] = (200, {"data": [], "has_more": False, "next_before": None})
    outcome = run("jobs")
    assert (outcome.code, outcome.out) == (0, "")
    assert "eigenwerk submit" in outcome.err
    assert run("jobs", "--json").out == "[]\n"


def test_a_host_that_only_serves_takes_no_jobs_for_no_reason(platform: StubPlatform, run: Run) -> None:
    serving = HOST | {"reason": None, "message": None}
    platform.answers["GET /v1/hosts"] = (200, {"data": [serving]})
    assert re.search(r"one +takes no jobs +2 ", run("hosts").out)

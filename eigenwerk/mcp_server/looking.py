"""Tools that change nothing: what there is, what a spec would mean, and how jobs get on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context
from pydantic import Field

from eigenwerk.calls.job_lookup import newest_meant, whole_id
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.mcp_server.answers import Answer, Clients, answered, said_plainly
from eigenwerk.resources import Job
from eigenwerk.resources.pipelines import Pipeline

_PIPELINE = "pipeline"
#: Seconds between two looks while somebody waits.
_LOOK_S = 1.0
_LOG_LINES = 20

Limit = Annotated[int, Field(ge=1, le=100, description="at most so many, the newest first")]
Spec = Annotated[
    dict[str, Any], Field(description="a job spec or a pipeline, with its `kind`; see `describe_kind` for its fields")
]
Work = Annotated[str, Field(description="a job or pipeline: its id, the beginning of it, or its name")]
Reference = Annotated[str, Field(description="NAME, NAME@VERSION, NAME@ALIAS, or with an owner: OWNER/NAME@…")]


class Looking:
    """Each method is a tool."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def list_jobs(
        self,
        context: Context,
        limit: Limit = 20,
        state: Annotated[
            str | None, Field(description="queued, running, succeeded, failed, cancelled, …; all when absent")
        ] = None,
    ) -> Answer:
        """Your jobs with their states, newest first."""
        with said_plainly(), self._clients(context) as client:
            found = client.jobs(limit=limit, states=[state] if state else [])
            return answered({"jobs": found})

    def list_pipelines(self, context: Context, limit: Limit = 20) -> Answer:
        """Your pipelines (jobs in a row) with the states of their steps, newest first."""
        with said_plainly(), self._clients(context) as client:
            return answered({"pipelines": client.pipelines(limit=limit)})

    def show(self, context: Context, work: Work) -> Answer:
        """One job or pipeline: state and why, progress, what was measured, and the end of a job's log."""
        with said_plainly(), self._clients(context) as client:
            found = _found(client, work)
            if isinstance(found, Pipeline):
                return answered(found.model_dump(mode="json", exclude={"document", "cursor"}))
            lines = [f"{line.level}: {line.message}" for line in client.logs(found.id)][-_LOG_LINES:]
            return answered({**found.model_dump(mode="json"), "log": lines})

    def list_models(
        self,
        context: Context,
        text: Annotated[str | None, Field(description="words in name, owner, description or tags")] = None,
        task: Annotated[str | None, Field(description="such as text-classification or text-generation")] = None,
        shared: Annotated[bool, Field(description="also what others share with everyone")] = False,
    ) -> Answer:
        """The newest version of each registered model, with what was measured."""
        with said_plainly(), self._clients(context) as client:
            return answered({"models": client.models(text, task=task, shared=shared)})

    def show_model(self, context: Context, model: Reference) -> Answer:
        """One version of a model: its figures, what it was made from and by, and which deployments serve it."""
        with said_plainly(), self._clients(context) as client:
            version = client.model_version(model)
            whole = client.model(f"{version.owner}/{version.name}")
            told = {"aliases": whole.aliases, "versions": [one.version for one in whole.versions]}
            about = version.model_dump(mode="json", exclude={"manifest"})
            return answered({**about, **told, "lineage": client.model_lineage(version.reference)})

    def compare_models(self, context: Context, first: Reference, second: Reference) -> Answer:
        """Two versions: what differs in their specs, their figures, and the rows of which only one was right."""
        with said_plainly(), self._clients(context) as client:
            return answered(client.compare_models(first, second))

    def list_datasets(
        self,
        context: Context,
        shared: Annotated[bool, Field(description="also what others share with everyone")] = False,
    ) -> Answer:
        """The newest version of each data set, with its rows and columns."""
        with said_plainly(), self._clients(context) as client:
            return answered({"datasets": client.datasets(shared=shared)})

    def show_dataset(
        self, context: Context, dataset: Reference, rows: Annotated[int, Field(ge=0, le=20)] = 3
    ) -> Answer:
        """One version of a data set: what is known of its columns, and its first rows, which are somebody's data."""
        with said_plainly(), self._clients(context) as client:
            version = client.dataset_version(dataset)
            first = client.preview_dataset(version.reference, rows=rows).rows if rows else []
            return answered({**version.model_dump(mode="json"), "first_rows": first})

    def list_deployments(self, context: Context) -> Answer:
        """What is served under which name, by what, and how it has answered."""
        with said_plainly(), self._clients(context) as client:
            return answered({"deployments": client.deployments()})

    def describe_kind(
        self,
        context: Context,
        kind: Annotated[str | None, Field(description="a job kind; without one all kinds are named")] = None,
    ) -> Answer:
        """The kinds of jobs, or the JSON Schema of one kind's spec or of a pipeline."""
        with said_plainly(), self._clients(context) as client:
            return answered(client.schema(kind) if kind else {"kinds": [*client.kinds(), _PIPELINE]})

    def check(self, context: Context, spec: Spec) -> Answer:
        """Reads the data as the job or pipeline would and says what is wrong with it; nothing is queued."""
        with said_plainly(), self._clients(context) as client:
            if spec.get("kind") == _PIPELINE:
                return answered(client.check_pipeline(spec))
            return answered(client.check(spec))

    def estimate(self, context: Context, spec: Spec) -> Answer:
        """Memory and time that the job or pipeline would take; nothing is queued."""
        with said_plainly(), self._clients(context) as client:
            if spec.get("kind") == _PIPELINE:
                return answered(client.check_pipeline(spec))
            return answered(client.estimate(spec))

    async def watch(
        self,
        context: Context,
        work: Work,
        wait_s: Annotated[float, Field(ge=0, le=600, description="seconds to wait at most; then call it again")] = 60,
    ) -> Answer:
        """Waits until a job or pipeline has ended, telling its progress, and says how it stands."""
        deadline_s = time.monotonic() + wait_s
        with said_plainly(), self._clients(context) as client:
            found = await anyio.to_thread.run_sync(_found, client, work)
            while not found.ended and (left_s := deadline_s - time.monotonic()) > 0:
                done, total, said = _progress(found)
                await context.report_progress(done, total, said)
                await anyio.sleep(min(_LOOK_S, left_s))
                found = await anyio.to_thread.run_sync(_again, client, found)
            told = found.model_dump(mode="json", exclude={"document", "cursor", "spec"})
            return answered({"ended": found.ended, **told})


def found_work(client: Client, text: str) -> tuple[str, str]:
    """What kind of thing is meant (`job` or `pipeline`), and its id."""
    found = _found(client, text)
    return ("pipeline" if isinstance(found, Pipeline) else "job"), found.id


def _found(client: Client, text: str) -> Job | Pipeline:
    """The job, else the pipeline, of that id, beginning of an id, or name; the newest of a name."""
    try:
        return client.job(whole_id(text) or newest_meant(text, client.jobs_meant(text)).id)
    except EigenwerkError as error:
        if error.status != 404:
            raise
    try:
        return client.pipeline(client.find_pipeline_id(text))
    except EigenwerkError as error:
        if error.status != 404:
            raise
        raise EigenwerkError(f"You have no job or pipeline {text}. list_jobs tells yours.", status=404) from error


def _again(client: Client, found: Job | Pipeline) -> Job | Pipeline:
    return client.pipeline(found.id) if isinstance(found, Pipeline) else client.job(found.id)


def _progress(found: Job | Pipeline) -> tuple[float, float | None, str]:
    """How much is done, of how much, and in words."""
    if isinstance(found, Pipeline):
        settled = sum(step.finished_at is not None for step in found.steps)
        running = ", ".join(step.name for step in found.steps if step.state == "running")
        return settled, len(found.steps), f"{found.state}: {running or 'no step runs'}"
    if found.progress is None:
        return 0, None, found.waiting_for or found.state
    return found.progress.step, found.progress.steps_total or None, f"{found.state}: {found.progress.stage}"


READING: Mapping[str, str] = {
    "list_jobs": "Jobs",
    "list_pipelines": "Pipelines",
    "show": "One job or pipeline",
    "list_models": "Models",
    "show_model": "One model",
    "compare_models": "Compare two models",
    "list_datasets": "Data sets",
    "show_dataset": "One data set",
    "list_deployments": "Deployments",
    "describe_kind": "Fields of a spec",
    "check": "Check a spec",
    "estimate": "Estimate a spec",
    "watch": "Wait for a job or pipeline",
}

"""The client: one method per thing that a user can do. Everything it needs of the platform is its URL and a token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from eigenwerk.calls.deployments import DeploymentCalls
from eigenwerk.calls.inference import InferenceCalls
from eigenwerk.calls.job_lookup import JOBS_SEARCHED_MAX, meant_by, not_found, only_meant, whole_id
from eigenwerk.calls.model_transfers import ModelTransferCalls
from eigenwerk.calls.pipelines import PipelineCalls
from eigenwerk.calls.schedules import ScheduleCalls
from eigenwerk.calls.sweeps import SweepCalls
from eigenwerk.calls.webhooks import WebhookCalls
from eigenwerk.connection import Connection, find_connection
from eigenwerk.http.event_stream import Event, follow
from eigenwerk.http.transport import Sleep, Transport, given
from eigenwerk.resources import (
    Deleted,
    Host,
    HubToken,
    Job,
    JobSummary,
    Leaving,
    LogLine,
    Token,
    User,
    UserLimits,
)
from jobspecs.data_report import DataReport
from jobspecs.estimate import Estimate

_PAGE_ITEMS = 200


class Client(
    DeploymentCalls, ModelTransferCalls, InferenceCalls, PipelineCalls, SweepCalls, WebhookCalls, ScheduleCalls
):
    """Talks to one platform. Methods raise EigenwerkError; use it as a context manager or call `close`.

    `http` and `sleep` are for tests.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        http: httpx.BaseTransport | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._transport = Transport(url, token, http=http, sleep=sleep)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Queues a job. Repeated with the same key and spec it gives the job that was made the first time."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return Job.model_validate(
            self._transport.call("POST", "/v1/jobs", json=dict(spec), headers=headers, repeatable=True)
        )

    def check(self, spec: Mapping[str, Any]) -> DataReport:
        """Reads the whole data set as the job would; nothing is queued. What is wrong with it is in the report."""
        answer = self._transport.call("POST", "/v1/jobs/check", json=dict(spec), repeatable=True)
        return DataReport.model_validate(answer)

    def estimate(self, spec: Mapping[str, Any]) -> Estimate:
        """Memory by part and a duration band of a job; nothing is queued."""
        answer = self._transport.call("POST", "/v1/jobs/estimate", json=dict(spec), repeatable=True)
        return Estimate.model_validate(answer)

    def jobs(
        self, *, limit: int = 50, states: Sequence[str] = (), everybody: bool = False, owner: str | None = None
    ) -> list[JobSummary]:
        """Your jobs, newest first; for an administrator `everybody`'s, or those of one `owner`."""
        asked = given(state=list(states) or None, all=True if everybody else None, owner=owner)
        found: list[JobSummary] = []
        before: int | None = None
        while len(found) < limit:
            params = {"limit": min(limit - len(found), _PAGE_ITEMS), "before": before, **asked}
            page = self._transport.call("GET", "/v1/jobs", params=params)
            found += [JobSummary.model_validate(item) for item in page["data"]]
            before = page["next_before"]
            if not page["has_more"]:
                break
        return found

    def job(self, job_id: str) -> Job:
        return Job.model_validate(self._transport.call("GET", f"/v1/jobs/{quote(job_id, safe='')}"))

    def boost(self, job_id: str, boost: int) -> Job:
        """Puts a job before everybody's with a lower boost (0 to 100). Needs an administrator's token."""
        path = f"/v1/jobs/{quote(job_id, safe='')}"
        return Job.model_validate(self._transport.call("PATCH", path, json={"boost": boost}))

    def cancel(self, job_id: str) -> Job:
        """Cancels a queued job at once and asks an active one to stop. Status 409 when it has ended."""
        # Asked twice it is the same wish, so a broken connection is no reason to give up.
        return Job.model_validate(
            self._transport.call("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", repeatable=True)
        )

    def pause(self, job_id: str) -> Job:
        """Pauses a queued job at once; an active one stores a checkpoint and stops. Status 409 when it has ended."""
        return Job.model_validate(
            self._transport.call("POST", f"/v1/jobs/{quote(job_id, safe='')}/pause", repeatable=True)
        )

    def resume(self, job_id: str) -> Job:
        """Queues a paused job again: it goes on from its newest checkpoint. Status 409 when it is not paused."""
        return Job.model_validate(
            self._transport.call("POST", f"/v1/jobs/{quote(job_id, safe='')}/resume", repeatable=True)
        )

    def retry(self, job_id: str, *, checkpoint_required: bool = False, idempotency_key: str | None = None) -> Job:
        """Queues a new job that goes on from the checkpoint of a failed or cancelled one, at its `checkpoint_step`.

        Without a checkpoint it starts anew, or is refused with status 409 if `checkpoint_required`.
        """
        return Job.model_validate(
            self._transport.call(
                "POST",
                f"/v1/jobs/{quote(job_id, safe='')}/retry",
                params={"checkpoint_required": checkpoint_required},
                headers={"Idempotency-Key": idempotency_key or str(uuid4())},
                repeatable=True,
            )
        )

    def delete_job(self, job_id: str) -> Deleted:
        """Deletes an ended job with its log and checkpoints; what it made stays. Status 409 when it has not ended."""
        return Deleted.model_validate(self._transport.call("DELETE", f"/v1/jobs/{quote(job_id, safe='')}"))

    def jobs_meant(self, text: str, *, everybody: bool = False) -> list[JobSummary]:
        """The jobs whose id begins with `text` or whose name it is, newest first: yours, or `everybody`'s.

        Looks at the newest 2,000. Raises EigenwerkError with status 404 when there is none.
        """
        found = meant_by(text, self.jobs(limit=JOBS_SEARCHED_MAX, everybody=everybody))
        if not found:
            raise not_found(text, everybody=everybody)
        return found

    def find_job_id(self, text: str, *, everybody: bool = False) -> str:
        """The id of the only job of yours, or of `everybody`'s, whose id begins with `text` or whose name it is.

        A whole id is taken as it is, whoever's it is. Raises EigenwerkError when no job or several can be meant.
        """
        return whole_id(text) or only_meant(text, self.jobs_meant(text, everybody=everybody), lambda job: True).id

    def logs(self, job_id: str) -> Iterator[LogLine]:
        """The log so far."""
        after: str | None = None
        while True:
            page = self._transport.call("GET", f"/v1/jobs/{quote(job_id, safe='')}/logs", params={"after": after})
            yield from (LogLine.model_validate(line) for line in page["data"])
            after = page["cursor"]
            if not page["has_more"]:
                return

    def watch(self, job_id: str, *, after: str | None = None) -> Iterator[Event]:
        """Everything that happens, from the beginning or from behind `after`, until the job ends.

        The last event has the type `end`. A connection that breaks is made again, with nothing lost or repeated.
        """
        return follow(self._transport, f"/v1/jobs/{quote(job_id, safe='')}/events", after)

    def hosts(self) -> list[Host]:
        """The hosts that were seen within a week, and why one takes no jobs."""
        return [Host.model_validate(item) for item in self._transport.call("GET", "/v1/hosts")["data"]]

    def drain_host(self, name: str) -> Host:
        """The host takes no new jobs and gives away what it serves, without a gap; `undrain_host` ends that."""
        return Host.model_validate(self._transport.call("PUT", f"/v1/hosts/{quote(name, safe='')}/draining"))

    def undrain_host(self, name: str) -> Host:
        return Host.model_validate(self._transport.call("DELETE", f"/v1/hosts/{quote(name, safe='')}/draining"))

    def kinds(self) -> list[str]:
        """The job kinds that the platform knows."""
        return [item["kind"] for item in self._transport.call("GET", "/v1/schemas")["data"]]

    def schema(self, kind: str) -> dict[str, Any]:
        """The JSON Schema of a kind's spec."""
        schema: dict[str, Any] = self._transport.call("GET", f"/v1/schemas/{quote(kind, safe='')}")
        return schema

    def me(self) -> User:
        """Who you are to the platform."""
        return User.model_validate(self._transport.call("GET", "/v1/users/me"))

    def users(self) -> list[User]:
        """Everybody. This needs an administrator's token."""
        return [User.model_validate(item) for item in self._transport.call("GET", "/v1/users")["data"]]

    def create_user(self, name: str) -> User:
        return User.model_validate(self._transport.call("POST", "/v1/users", json={"name": name}))

    def delete_user(
        self, name: str, *, give_to: str | None = None, delete_things: bool = False, cancel_jobs: bool = False
    ) -> Leaving | None:
        """Deletes a user, whose tokens end at once. What it has passes to `give_to`, or is deleted.

        None once the user is gone; else what must be stopped before: ask again then. Status 409, and nothing changed,
        when things are left or names clash.
        """
        params = given(give_to=give_to, delete_things=delete_things or None, cancel_jobs=cancel_jobs or None)
        left = self._transport.call("DELETE", f"/v1/users/{quote(name, safe='')}", params=params)
        return None if left is None else Leaving.model_validate(left)

    def limits(self, user: str = "me") -> UserLimits:
        """How much a user may ask of deployed models."""
        return UserLimits.model_validate(self._transport.call("GET", f"/v1/users/{quote(user, safe='')}/limits"))

    def set_limits(self, user: str, limits: Mapping[str, int | None]) -> UserLimits:
        """Sets all of a user's limits; those left out are as the platform has them. For administrators."""
        path = f"/v1/users/{quote(user, safe='')}/limits"
        return UserLimits.model_validate(self._transport.call("PUT", path, json=dict(limits)))

    def hub_token(self) -> HubToken:
        """Your own token of the model hub, by its last characters. Status 404 without one."""
        return HubToken.model_validate(self._transport.call("GET", "/v1/users/me/hub-token"))

    def set_hub_token(self, token: str) -> HubToken:
        """Keeps your token of the model hub, encrypted, for what you name as `hub:…`."""
        return HubToken.model_validate(self._transport.call("PUT", "/v1/users/me/hub-token", json={"token": token}))

    def delete_hub_token(self) -> None:
        self._transport.call("DELETE", "/v1/users/me/hub-token")

    def create_token(self, *, user: str = "me", scopes: Sequence[str], expires_in: str | None = None) -> Token:
        """Makes a token; its text is in the answer and never again. `expires_in`: 12h, 30d."""
        body = given(scopes=list(scopes), expires_in=expires_in)
        return Token.model_validate(self._transport.call("POST", f"/v1/users/{quote(user, safe='')}/tokens", json=body))

    def tokens(self, *, user: str = "me") -> list[Token]:
        page = self._transport.call("GET", f"/v1/users/{quote(user, safe='')}/tokens")
        return [Token.model_validate(item) for item in page["data"]]

    def revoke_token(self, token_id: str, *, user: str = "me") -> None:
        self._transport.call("DELETE", f"/v1/users/{quote(user, safe='')}/tokens/{quote(token_id, safe='')}")


def connect(connection: Connection | None = None) -> Client:
    """A client for the given platform, else for the one that `find_connection` finds."""
    connection = connection or find_connection()
    return Client(connection.url, connection.token)

"""What a client asks of pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from eigenwerk.calls.job_lookup import whole_id
from eigenwerk.errors import EigenwerkError
from eigenwerk.http.event_stream import Event, follow
from eigenwerk.http.transport import Transport
from eigenwerk.resources.pipelines import Pipeline, PipelineForecast, PipelineSummary

_PAGE_ITEMS = 200
#: What is no whole id is looked for among so many of the newest pipelines.
_SEARCHED_MAX = 1000


class PipelineCalls:
    """The part of a Client that is about pipelines."""

    _transport: Transport

    def submit_pipeline(self, document: Mapping[str, Any], *, idempotency_key: str | None = None) -> Pipeline:
        """Checks a pipeline as a whole and starts it. Repeated with the same key it gives the one made first."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        answer = self._transport.call("POST", "/v1/pipelines", json=dict(document), headers=headers, repeatable=True)
        return Pipeline.model_validate(answer)

    def check_pipeline(self, document: Mapping[str, Any]) -> PipelineForecast:
        """Checks and estimates every step as a submission would; nothing is queued."""
        answer = self._transport.call("POST", "/v1/pipelines/check", json=dict(document), repeatable=True)
        return PipelineForecast.model_validate(answer)

    def pipelines(self, *, limit: int = 50, everybody: bool = False) -> list[PipelineSummary]:
        """Your pipelines, newest first; for an administrator `everybody`'s."""
        found: list[PipelineSummary] = []
        before: int | None = None
        while len(found) < limit:
            params = {"limit": min(limit - len(found), _PAGE_ITEMS), "before": before, "all": everybody or None}
            page = self._transport.call("GET", "/v1/pipelines", params=params)
            found += [PipelineSummary.model_validate(item) for item in page["data"]]
            before = page["next_before"]
            if not page["has_more"]:
                break
        return found

    def pipeline(self, pipeline_id: str) -> Pipeline:
        return Pipeline.model_validate(self._transport.call("GET", _path(pipeline_id)))

    def cancel_pipeline(self, pipeline_id: str) -> Pipeline:
        """Begins nothing of it any more and asks what runs to stop. Status 409 when it has ended."""
        return Pipeline.model_validate(self._transport.call("POST", f"{_path(pipeline_id)}/cancel", repeatable=True))

    def retry_pipeline(self, pipeline_id: str) -> Pipeline:
        """Goes on from the steps that did not succeed. Status 409 when it has not ended, or has succeeded."""
        return Pipeline.model_validate(self._transport.call("POST", f"{_path(pipeline_id)}/retry"))

    def delete_pipeline(self, pipeline_id: str) -> None:
        """Deletes a pipeline that has ended; its jobs and what they made stay. Status 409 while it goes on."""
        self._transport.call("DELETE", _path(pipeline_id))

    def pipeline_events(self, pipeline_id: str, *, after: str | None = None) -> Iterator[Event]:
        """Every change of a state from the beginning, or from behind `after`, and how far running steps are.

        The last event has the type `end`. A connection that breaks is made again, with nothing lost or repeated.
        """
        return follow(self._transport, f"{_path(pipeline_id)}/events", after)

    def watch_pipeline(self, pipeline_id: str) -> Iterator[Pipeline]:
        """The pipeline as it is now, and whenever something about it has changed, until it has ended."""
        last = self.pipeline(pipeline_id)
        yield last
        if last.ended:
            return
        for _ in self.pipeline_events(pipeline_id, after=last.cursor):
            pipeline = self.pipeline(pipeline_id)
            if pipeline != last:
                yield pipeline
            if pipeline.ended:
                return
            last = pipeline

    def find_pipeline_id(
        self,
        text: str,
        *,
        everybody: bool = False,
        possible: Callable[[PipelineSummary], bool] = lambda pipeline: True,
        only: bool = False,
    ) -> str:
        """The id of the newest `possible` pipeline whose id begins with `text` or whose name it is.

        A whole id is taken as it is. Raises EigenwerkError when there is none, or beginnings of ids make it unclear;
        with `only` also when several have the name.
        """
        if found := whole_id(text):
            return found
        meant = [
            one
            for one in self.pipelines(limit=_SEARCHED_MAX, everybody=everybody)
            if text and (one.id.startswith(text.lower()) or one.name == text)
        ]
        if not meant:
            raise EigenwerkError(f"You have no pipeline {text}. `eigenwerk pipelines list` lists yours.", status=404)
        if len(meant) > 1 and (only or any(one.name != text for one in meant)):
            listed = "".join(f"\n  {one.id}  {one.name}  {one.state}" for one in meant[:10])
            raise EigenwerkError(f"{text} can mean {len(meant)} pipelines. Give more characters of the id:{listed}")
        return _newest(meant, possible).id


def _newest(meant: Sequence[PipelineSummary], possible: Callable[[PipelineSummary], bool]) -> PipelineSummary:
    return next((one for one in meant if possible(one)), meant[0])


def _path(pipeline_id: str) -> str:
    return f"/v1/pipelines/{quote(pipeline_id, safe='')}"

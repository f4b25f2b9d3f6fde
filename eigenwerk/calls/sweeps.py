"""What a client asks of sweeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from eigenwerk.calls.job_lookup import whole_id
from eigenwerk.errors import EigenwerkError
from eigenwerk.http.transport import Transport
from eigenwerk.resources.sweeps import Sweep, SweepForecast, SweepSummary

_PAGE_ITEMS = 200
#: What is no whole id is looked for among so many of the newest sweeps.
_SEARCHED_MAX = 1000


class SweepCalls:
    """The part of a Client that is about sweeps."""

    _transport: Transport

    def submit_sweep(self, document: Mapping[str, Any], *, idempotency_key: str | None = None) -> Sweep:
        """Checks a sweep as a whole and starts it. Repeated with the same key it gives the one made first."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        answer = self._transport.call("POST", "/v1/sweeps", json=dict(document), headers=headers, repeatable=True)
        return Sweep.model_validate(answer)

    def check_sweep(self, document: Mapping[str, Any]) -> SweepForecast:
        """Checks and estimates a sweep as a submission would; nothing is queued."""
        answer = self._transport.call("POST", "/v1/sweeps/check", json=dict(document), repeatable=True)
        return SweepForecast.model_validate(answer)

    def sweeps(self, *, limit: int = 50, everybody: bool = False) -> list[SweepSummary]:
        """Your sweeps, newest first; for an administrator `everybody`'s."""
        found: list[SweepSummary] = []
        before: int | None = None
        while len(found) < limit:
            params = {"limit": min(limit - len(found), _PAGE_ITEMS), "before": before, "all": everybody or None}
            page = self._transport.call("GET", "/v1/sweeps", params=params)
            found += [SweepSummary.model_validate(item) for item in page["data"]]
            before = page["next_before"]
            if not page["has_more"]:
                break
        return found

    def sweep(self, sweep_id: str) -> Sweep:
        """One sweep with its leaderboard."""
        return Sweep.model_validate(self._transport.call("GET", _path(sweep_id)))

    def cancel_sweep(self, sweep_id: str) -> Sweep:
        """Begins nothing of it any more and asks what runs to stop. Status 409 when it has ended."""
        return Sweep.model_validate(self._transport.call("POST", f"{_path(sweep_id)}/cancel", repeatable=True))

    def watch_sweep(self, sweep_id: str, *, poll_s: float = 1.0) -> Iterator[Sweep]:
        """The sweep as it is now, and whenever something about it has changed, until it has ended."""
        last = None
        while True:
            sweep = self.sweep(sweep_id)
            if sweep != last:
                yield sweep
            if sweep.ended:
                return
            last = sweep
            self._transport.sleep(poll_s)

    def find_sweep_id(
        self, text: str, *, everybody: bool = False, possible: Callable[[SweepSummary], bool] = lambda sweep: True
    ) -> str:
        """The id of the newest `possible` sweep whose id begins with `text` or whose name it is.

        A whole id is taken as it is. Raises EigenwerkError when there is none, or beginnings of ids make it unclear.
        """
        if found := whole_id(text):
            return found
        meant = [
            one
            for one in self.sweeps(limit=_SEARCHED_MAX, everybody=everybody)
            if text and (one.id.startswith(text.lower()) or one.name == text)
        ]
        if not meant:
            raise EigenwerkError(f"You have no sweep {text}. `eigenwerk sweeps list` lists yours.", status=404)
        if len(meant) > 1 and any(one.name != text for one in meant):
            listed = "".join(f"\n  {one.id}  {one.name}  {one.state}" for one in meant[:10])
            raise EigenwerkError(f"{text} can mean {len(meant)} sweeps. Give more characters of the id:{listed}")
        return next((one for one in meant if possible(one)), meant[0]).id


def _path(sweep_id: str) -> str:
    return f"/v1/sweeps/{quote(sweep_id, safe='')}"

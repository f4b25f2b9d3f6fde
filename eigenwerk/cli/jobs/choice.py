"""The job that a command is about, from what was typed."""

from __future__ import annotations

from collections.abc import Callable

from eigenwerk.calls.job_lookup import newest_meant, only_meant, whole_id
from eigenwerk.cli.console import ID_CHARS, note
from eigenwerk.client import Client
from eigenwerk.resources import JobSummary

#: Older jobs of the same name that are told with their ids.
_OTHERS_SHOWN = 4


def job_to_look_at(client: Client, text: str, everybody: bool) -> str:
    """The id of the job that is to be shown; of several with one name the newest, and that it is."""
    if found := whole_id(text):
        return found
    candidates = client.jobs_meant(text, everybody=everybody)
    job, others = newest_meant(text, candidates), candidates[1:]
    if others:
        listed = ", ".join(other.id[:ID_CHARS] for other in others[:_OTHERS_SHOWN])
        more = ", …" if len(others) > _OTHERS_SHOWN else ""
        note(f"{len(candidates)} jobs are named {text}; this is the newest, {job.id[:ID_CHARS]}, not {listed}{more}")
    return job.id


def job_to_change(client: Client, text: str, everybody: bool, possible: Callable[[JobSummary], bool]) -> str:
    """The id of the job that is to be changed. Raises EigenwerkError unless only one can be meant.

    `possible`: whether the change can be meant for a job, of several with one name.
    """
    return whole_id(text) or only_meant(text, client.jobs_meant(text, everybody=everybody), possible).id

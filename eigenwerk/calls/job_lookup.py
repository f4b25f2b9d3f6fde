"""Which job is meant by an id, its beginning, or a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from eigenwerk.errors import EigenwerkError
from eigenwerk.resources import JobSummary

#: What is no whole id is looked for among so many of the newest jobs.
JOBS_SEARCHED_MAX = 2000
#: Jobs that an error lists one by one.
_LISTED_MAX = 10


def whole_id(text: str) -> str | None:
    """The id, when `text` is a whole one and not its beginning or a name."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def meant_by(text: str, jobs: Sequence[JobSummary]) -> list[JobSummary]:
    """The jobs whose id begins with `text` or whose name it is, in their order."""
    return [job for job in jobs if text and (job.id.startswith(text.lower()) or job.name == text)]


def newest_meant(text: str, candidates: Sequence[JobSummary]) -> JobSummary:
    """The first of jobs of one name, newest first. Raises EigenwerkError when beginnings of ids make it unclear."""
    if len(candidates) > 1 and any(job.name != text for job in candidates):
        raise unclear(text, candidates)
    return candidates[0]


def only_meant(text: str, candidates: Sequence[JobSummary], possible: Callable[[JobSummary], bool]) -> JobSummary:
    """The one job that can be meant: the only candidate, else the only `possible` one of those with the name `text`.

    Raises EigenwerkError, which lists the candidates, when more than one can be meant, or none of several.
    """
    if len(candidates) == 1:
        return candidates[0]
    fitting = [job for job in candidates if possible(job)]
    if len(fitting) == 1 and all(job.name == text for job in candidates):
        return fitting[0]
    raise unclear(text, candidates)


def not_found(text: str, *, everybody: bool) -> EigenwerkError:
    where = "`eigenwerk jobs --all` lists everybody's."
    if not everybody:
        where = "`eigenwerk jobs` lists yours; an administrator finds others' with --all."
    whose = "There is" if everybody else "You have"
    return EigenwerkError(f"{whose} no job {text}. {where}", status=404)


def unclear(text: str, candidates: Sequence[JobSummary]) -> EigenwerkError:
    listed = "".join(
        f"\n  {job.id}  {job.name}  {job.state}  submitted {job.created_at:%Y-%m-%d %H:%M:%S}"
        for job in candidates[:_LISTED_MAX]
    )
    more = f"\n  and {len(candidates) - _LISTED_MAX} more" if len(candidates) > _LISTED_MAX else ""
    return EigenwerkError(
        f"{text} can mean {len(candidates)} jobs. Give the id, or more characters of it:{listed}{more}"
    )

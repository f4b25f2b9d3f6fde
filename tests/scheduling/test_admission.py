from __future__ import annotations

from scheduling.admission import why_no_host_fits
from scheduling.decisions import Host, Resources, Running

GIB = 2**30
CAPACITY = Resources(slots=2, memory_bytes=8 * GIB)
FULL_LAPTOP = Host("laptop", CAPACITY, (Running(CAPACITY, ends_in_s=60),))


def job(*, memory_gib: int = 1, gpus: int = 0) -> Resources:
    return Resources(slots=1, memory_bytes=memory_gib * GIB, gpus=gpus)


def test_a_job_that_fits_an_empty_host_may_wait_for_it() -> None:
    assert why_no_host_fits(job(memory_gib=8), [FULL_LAPTOP]) is None


def test_without_any_known_host_nothing_is_refused() -> None:
    assert why_no_host_fits(job(gpus=64), []) is None


def test_too_many_gpus_are_refused_with_what_there_is() -> None:
    problem = why_no_host_fits(job(gpus=2), [FULL_LAPTOP])
    assert problem is not None
    assert problem.field == "resources.gpus"
    assert "the largest host has 0" in problem.message


def test_too_much_memory_is_refused_with_what_there_is() -> None:
    problem = why_no_host_fits(job(memory_gib=9), [FULL_LAPTOP])
    assert problem is not None
    assert problem.field == "resources.memory_gib"
    assert "9.0 GiB" in problem.message
    assert "(the largest has 8.0 GiB)" in problem.message
    assert problem.remedy is not None and "add a worker" in problem.remedy

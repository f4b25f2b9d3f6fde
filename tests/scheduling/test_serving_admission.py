from __future__ import annotations

from scheduling.serving_admission import Needs, why_it_cannot_stay, why_no_host_serves

GIB = 2**30


def test_nothing_is_refused_while_no_host_is_known() -> None:
    assert why_no_host_serves(Needs(4096 * GIB), []) is None


def test_the_nearest_host_is_named_when_none_is_large_enough() -> None:
    hosts = [Needs(8 * GIB, 2), Needs(64 * GIB)]
    assert why_no_host_serves(Needs(64 * GIB), hosts) is None
    problem = why_no_host_serves(Needs(65 * GIB), hosts)
    assert problem is not None
    assert (problem.field, "64.00 GiB" in problem.message) == ("memory_gib", True)
    problem = why_no_host_serves(Needs(9 * GIB, 1), hosts)
    assert problem is not None
    assert (problem.field, "8.00 GiB of memory and 2 GPUs" in problem.message) == ("memory_gib", True)
    problem = why_no_host_serves(Needs(GIB, 3), hosts)
    assert problem is not None
    assert problem.field == "gpus"


def test_what_is_served_grows_into_what_is_free_and_no_further() -> None:
    assert why_it_cannot_stay(Needs(2 * GIB, 1), "host", Needs(2 * GIB, 1)) is None
    problem = why_it_cannot_stay(Needs(3 * GIB), "host", Needs(-GIB))
    assert problem is not None
    assert "0.00 GiB" in problem.message

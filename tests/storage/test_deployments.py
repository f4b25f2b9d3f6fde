"""The ledger of deployments: who may claim, report and remove, and what is taken of each host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import pytest
from sqlalchemy import text

from jobspecs.manifest import Manifest
from jobspecs.rights import Reach
from storage.database import Database, UnitOfWork
from storage.repositories.serving.engine_holds import Taken
from storage.tables import DeploymentRow


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def want(work: UnitOfWork, name: str = "served", *, memory_bytes: int = 8, gpus: int = 0) -> DeploymentRow:
    owner = work.users.ensure("ada")
    manifest = Manifest(artifact="model", files=())
    version = work.models.add_version(owner.id, name, manifest=manifest, prefix=f"models/{uuid4()}")
    return work.deployments.want(
        owner.id,
        name,
        model_version_id=version.id,
        engine="embedded",
        replicas=1,
        memory_bytes=memory_bytes,
        gpus=gpus,
    )


def claim(work: UnitOfWork, host: str = "one", *, memory_bytes: int = 8, gpus: int = 0) -> DeploymentRow | None:
    return work.deployments.claim(host, memory_bytes_free=memory_bytes, gpus_free=gpus, lease_s=60)


def lease_ends(work: UnitOfWork) -> None:
    work.session.execute(text("UPDATE deployments SET lease_until = clock_timestamp() - interval '1 s'"))


def lease_s(work: UnitOfWork) -> float:
    seconds = text("SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM deployments")
    return float(work.session.scalars(seconds).one())


def test_a_host_claims_what_it_has_memory_and_gpus_for_and_nothing_else(database: Database) -> None:
    with database.unit_of_work() as work:
        want(work, memory_bytes=8, gpus=2)
        assert claim(work, memory_bytes=7, gpus=2) is None
        assert claim(work, memory_bytes=8, gpus=1) is None
        claimed = claim(work, memory_bytes=8, gpus=2)
        assert claimed is not None
        assert (claimed.host, claimed.state) == ("one", "pending")
        assert 50 < lease_s(work) <= 60
        assert claim(work, "two", memory_bytes=99, gpus=9) is None, "somebody serves it"


def test_a_host_claims_what_it_has_the_engine_for_and_what_nobody_has_to_say_so(database: Database) -> None:
    with database.unit_of_work() as work:
        want(work)
        work.hosts.announce_serving("other", memory_bytes=8, gpus=0, engines={"embedded": {"version": "1"}})
        assert work.deployments.claim("one", memory_bytes_free=8, lease_s=60, engines=["llamacpp"]) is None
        work.hosts.announce_serving("other", memory_bytes=8, gpus=0, engines={"llamacpp": {"version": "1"}})
        claimed = work.deployments.claim("one", memory_bytes_free=8, lease_s=60, engines=["llamacpp"])
        assert claimed is not None, "no host has the engine: the one that takes it says why it can't be served"


def test_the_oldest_deployment_is_claimed_first_and_one_at_a_time(database: Database) -> None:
    with database.unit_of_work() as work:
        want(work, "first")
    with database.unit_of_work() as work:
        want(work, "second")
        assert [row.name for row in (claim(work), claim(work)) if row] == ["first", "second"]
        assert [row.name for row in work.deployments.held("one")] == ["first", "second"]
        assert work.deployments.held("two") == []


def test_a_claim_that_lapsed_goes_to_another_host_which_begins_anew(database: Database) -> None:
    with database.unit_of_work() as work:
        row = want(work, gpus=1)
        claim(work, gpus=1)
        work.deployments.hold_gpus(row.id, ["0"])
        ready = work.deployments.report(row.id, "one", 1, state="ready", endpoint="http://one", endpoint_key="k")
        assert ready
        lease_ends(work)
        assert work.deployments.count_by_state() == {"lost": 1}
        taken = claim(work, "two", gpus=1)
        assert taken is not None
        assert (taken.host, taken.state, taken.endpoint, taken.endpoint_key, taken.gpu_ids) == (
            *("two", "pending", None, None),
            [],
        )
        assert not work.deployments.report(row.id, "one", 1, state="ready"), "the former host lost its claim"
        assert work.deployments.renew("one", lease_s=60) == []


def test_a_lapsed_claim_that_nobody_took_is_renewed(database: Database) -> None:
    with database.unit_of_work() as work:
        row = want(work)
        claim(work)
        lease_ends(work)
        assert [held.id for held in work.deployments.renew("one", lease_s=30)] == [row.id]
        assert 20 < lease_s(work) <= 30


def test_what_was_observed_of_an_older_generation_is_not_written(database: Database) -> None:
    with database.unit_of_work() as work:
        row = want(work)
        claim(work)
        assert want(work).generation == 2
        assert not work.deployments.report(row.id, "one", 1, state="ready")
        said = {"state": "failed", "reason": "crashed", "message": "it ended", "endpoint": "http://one"}
        assert work.deployments.report(row.id, "one", 2, **said, endpoint_key="k")
        work.session.refresh(row)
        assert {name: getattr(row, name) for name in said} == said
        assert row.endpoint_key == "k"
        again = want(work)
        assert (again.state, again.reason, again.message, again.host) == ("pending", None, None, "one")


def test_a_deployment_that_is_wanted_again_is_not_removed(database: Database) -> None:
    with database.unit_of_work() as work:
        row = want(work)
        reach = Reach.of(row.owner_id)
        claim(work)
        assert not work.deployments.remove(row.id, "one", 1), "it is wanted"
        assert work.deployments.unwant(reach, "served")
        assert work.deployments.count_by_state() == {}
        assert not work.deployments.remove(row.id, "one", 1), "an older generation"
        assert not work.deployments.remove(row.id, "two", 2), "another host's"
        want(work)
        assert not work.deployments.remove(row.id, "one", 2)
        assert work.deployments.unwant(reach, "served")
        assert work.deployments.remove(row.id, "one", 4)
        assert not work.deployments.unwant(reach, "served")


def test_what_no_host_holds_is_deleted_at_once_and_what_a_dead_host_held_can_be_ended_by_any(
    database: Database,
) -> None:
    with database.unit_of_work() as work:
        reach = Reach.of(want(work).owner_id)
        assert work.deployments.unwant(reach, "served")
        assert work.deployments.list(reach) == []
        row = want(work, "other", memory_bytes=99)
        claim(work, memory_bytes=99)
        work.deployments.unwant(reach, "other")
        lease_ends(work)
        ending = claim(work, "small", memory_bytes=0)
        assert ending is not None, "to end it takes no memory"
        assert work.deployments.remove(row.id, "small", 2)


def test_a_host_that_goes_gives_back_its_own_and_no_others(database: Database) -> None:
    with database.unit_of_work() as work:
        first, second = want(work, "first"), want(work, "second")
        third = want(work, "third")
        for host in ("one", "two", "two"):
            claim(work, host)
        assert work.engine_holds.taken_by_host() == {"one": Taken(8), "two": Taken(16)}
        work.deployments.release("one")
        work.deployments.place_anew(second)
        for row in (first, third):
            work.session.refresh(row)
        assert [(row.host, row.lease_until) for row in (first, second)] == [(None, None)] * 2
        assert third.host == "two"
        assert work.engine_holds.taken_by_host() == {"one": Taken(8), "two": Taken(16)}, "their engines still run"
        work.engine_holds.settle("one", [])
        assert work.engine_holds.taken_by_host() == {"two": Taken(16)}
        work.engine_holds.settle("two", [])
        assert work.engine_holds.taken_by_host() == {"two": Taken(8)}


def test_gpus_of_deployments_are_counted_and_named(database: Database) -> None:
    with database.unit_of_work() as work:
        rows = [want(work, name, gpus=gpus) for name, gpus in (("a", 1), ("b", 2))]
        for _ in rows:
            claim(work, gpus=2)
        assert work.engine_holds.taken_by_host() == {"one": Taken(16, 3)}
        work.deployments.hold_gpus(rows[1].id, ["1", "2"])
        for row in rows:
            work.session.refresh(row)
        assert [row.gpu_ids for row in rows] == [[], ["1", "2"]]


def test_a_list_is_sorted_by_name_and_shows_ones_own_alone(database: Database) -> None:
    with database.unit_of_work() as work:
        want(work, "b")
        reach = Reach.of(want(work, "a").owner_id)
        assert [row.name for row in work.deployments.list(reach)] == ["a", "b"]
        assert work.deployments.list(Reach.of(uuid4())) == []
        assert work.deployments.find(Reach.of(uuid4()), "a") is None
        assert work.deployments.find(reach, "a", owner="bob") is None
        found = work.deployments.find(reach, "a", owner="ada", lock=True)
        assert found is not None

"""A share moves from a host that has both of a deployment's to one that has none: the real database, no processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import update

from jobspecs.lifecycle import Reason
from scheduling.share_moves import SETTLED_S
from storage.database import Database
from storage.repositories.serving.deployments import SPREAD_S
from storage.tables import DeploymentRow
from tests.workers.inference.test_claims import GIB, row_of
from tests.workers.inference.test_engine_holds import Laptop
from workers.engines.interface import EngineFailure, EngineState
from workers.inference.deployed_model import LINGER_S


def pass_by(database: Database, seconds: float) -> None:
    """Nothing has changed for so long."""
    earlier = update(DeploymentRow).values(updated_at=DeploymentRow.updated_at - timedelta(seconds=seconds))
    with database.unit_of_work() as work:
        work.session.execute(earlier)


def shares(database: Database) -> list[DeploymentRow]:
    first = row_of(database, "model")
    with database.unit_of_work() as work:
        return list(work.deployments.shares(first))


def want_second_share(database: Database) -> None:
    first = row_of(database, "model")
    with database.unit_of_work() as work:
        work.deployments.want(
            first.owner_id,
            "model",
            share=1,
            model_version_id=first.model_version_id,
            engine="fake",
            replicas=1,
            memory_bytes=2 * GIB,
            gpus=1,
        )


@pytest.fixture
def hosts(database_url: str) -> Iterator[tuple[Laptop, Laptop]]:
    """One that serves both shares, of 2 GiB and a GPU each, and one that has just joined."""
    with closing(Database(database_url)) as database:
        crowded, idle = Laptop(database), Laptop(database, "desktop")
        crowded.serve(memory_gib=2, gpus=1)
        want_second_share(database)
        pass_by(database, SPREAD_S + 1)
        crowded.look()
        crowded.engine.started[-1].now = EngineState.ready
        crowded.look()
        idle.look()
        pass_by(database, SETTLED_S)
        yield crowded, idle
        crowded.close()
        idle.close()


def test_a_share_moves_to_a_host_that_has_settled_and_is_answered_where_it_was_until_then(
    hosts: tuple[Laptop, Laptop],
) -> None:
    crowded, idle = hosts
    idle.look(SETTLED_S / 2)
    assert [row.host for row in shares(idle.database)] == ["laptop", "laptop"], "it has just joined"
    before = shares(idle.database)[1].endpoint
    idle.look(SETTLED_S)
    idle.look()
    crowded.look(30)
    first, second = shares(idle.database)
    assert (first.host, first.state, first.moving_from) == ("laptop", "ready", None)
    assert (second.host, second.moving_from, second.endpoint) == ("desktop", "laptop", before)
    assert (crowded.room()[:2], idle.room()[:2]) == ((4, 1), (6, 2)), "both are counted while both run"
    idle.engine.started[-1].now = EngineState.ready
    idle.look()
    second = shares(idle.database)[1]
    assert (second.state, second.endpoint_host) == ("ready", "desktop")
    assert second.endpoint != before
    crowded.look()
    assert crowded.engine.started[-1].now is EngineState.ready, "whoever has read its address just before"
    crowded.look(LINGER_S + 3)
    crowded.look()
    assert crowded.engine.started[-1].closed
    assert crowded.room()[:2] == (6, 2)
    for host in (crowded, idle):
        pass_by(idle.database, SETTLED_S)
        host.look(2 * SETTLED_S)
    assert [row.host for row in shares(idle.database)] == ["laptop", "desktop"], "each has one"


def test_a_share_that_does_not_start_where_it_moved_goes_back_and_is_not_taken_again(
    hosts: tuple[Laptop, Laptop],
) -> None:
    crowded, idle = hosts
    before = shares(idle.database)[1].endpoint
    idle.look(2 * SETTLED_S)
    idle.look()
    idle.engine.started[-1].given_up = EngineFailure(Reason.unsatisfiable, "not on this host")
    idle.engine.started[-1].now = EngineState.exited
    idle.look()
    idle.look()
    crowded.look()
    second = shares(idle.database)[1]
    assert (second.host, second.state, second.moving_from, second.endpoint) == ("laptop", "ready", None, before)
    assert len(crowded.engine.started) == 2, "its engine has gone on"
    idle.look()
    assert (crowded.room()[:2], idle.room()[:2]) == ((4, 1), (8, 3))
    pass_by(idle.database, SETTLED_S)
    idle.look(2 * SETTLED_S)
    assert [row.host for row in shares(idle.database)] == ["laptop", "laptop"]


def test_nothing_moves_to_a_drained_host_or_while_the_other_one_is_locked(hosts: tuple[Laptop, Laptop]) -> None:
    _, idle = hosts
    idle.look(SETTLED_S / 2)
    with idle.database.unit_of_work() as work:
        work.hosts.lock("laptop")
        idle.look(SETTLED_S)
    assert [row.host for row in shares(idle.database)] == ["laptop", "laptop"], "it is asked again at the next look"
    with idle.database.unit_of_work() as work:
        work.hosts.drain("desktop", True)
    idle.look(SETTLED_S)
    assert [row.host for row in shares(idle.database)] == ["laptop", "laptop"]
    with idle.database.unit_of_work() as work:
        work.hosts.drain("desktop", False)
    idle.look(SETTLED_S / 2)
    assert [row.host for row in shares(idle.database)] == ["laptop", "laptop"], "it has to settle anew"
    idle.look(SETTLED_S)
    assert [row.host for row in shares(idle.database)] == ["laptop", "desktop"]

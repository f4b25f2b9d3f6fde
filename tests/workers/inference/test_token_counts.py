"""What engines tell of tokens gets into the database once: no processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from storage.database import Database, DatabaseUnavailable, UnitOfWork
from tests.workers.inference.test_engine_holds import Laptop
from workers.engines.interface import Tokens


@pytest.fixture
def laptop(database_url: str) -> Iterator[Laptop]:
    with closing(Database(database_url)) as database:
        laptop = Laptop(database)
        yield laptop
        laptop.worker.stop(laptop.now_s)
        laptop.worker.tick_services(laptop.now_s)
        laptop.wakeup.close()


def counted(laptop: Laptop) -> dict[str, int]:
    with laptop.database.unit_of_work() as work:
        return {total.event: total.count for total in work.tallies.totals() if total.event.endswith("_tokens")}


def test_what_an_engine_tells_is_counted_once_and_what_it_adds_later_too(laptop: Laptop) -> None:
    laptop.serve(memory_gib=1, gpus=0)
    (engine,) = laptop.engine.started
    engine.told = Tokens(10, 4)
    laptop.look()
    laptop.look()
    assert counted(laptop) == {"prompt_tokens": 10, "generated_tokens": 4}
    engine.told = Tokens(12, 4)
    laptop.look()
    assert counted(laptop) == {"prompt_tokens": 12, "generated_tokens": 4}


def test_tokens_of_a_commit_that_failed_are_counted_later_and_once(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.serve(memory_gib=1, gpus=0)
    unit_of_work = laptop.database.unit_of_work

    @contextmanager
    def failing() -> Iterator[UnitOfWork]:
        with unit_of_work() as work:
            yield work
            work.session.flush()
            raise DatabaseUnavailable("gone")

    laptop.engine.started[0].told = Tokens(10, 4)
    with monkeypatch.context() as patched:
        patched.setattr(laptop.database, "unit_of_work", failing)
        laptop.look()
    assert counted(laptop) == {}
    laptop.look()
    laptop.look()
    assert counted(laptop) == {"prompt_tokens": 10, "generated_tokens": 4}


def test_the_last_words_of_engines_that_end_with_their_worker_are_counted(laptop: Laptop) -> None:
    laptop.serve(memory_gib=1, gpus=0)
    laptop.engine.started[0].told = Tokens(10, 4)
    laptop.worker.stop(laptop.now_s)
    laptop.worker.tick_services(laptop.now_s)
    laptop.worker.close()
    assert counted(laptop) == {"prompt_tokens": 10, "generated_tokens": 4}

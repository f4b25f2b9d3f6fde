"""What `/metrics` tells, on a platform of its own, whose parts are played by the test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from sqlalchemy import text

from api.health.figures import FRESH_S, FiguresCache
from jobspecs.hosts import HostReason
from jobspecs.lifecycle import JobState, Reason
from storage.database import Database
from storage.migrate import ensure_admin, upgrade
from tests.api.conftest import ADMIN_TOKEN, Api, RunApi

S = JobState


@pytest.fixture
def alone(run_api: RunApi, api: Api) -> Iterator[Api]:
    """An API whose database nobody else uses, with a data set and a model."""
    storage = api.settings.storage
    name = f"figures_{secrets.token_hex(4)}"
    with psycopg.connect(storage.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database_url = urlunsplit(urlsplit(storage.database_url)._replace(path=f"/{name}"))
    upgrade(database_url)
    ensure_admin(database_url, ADMIN_TOKEN)
    with run_api(storage=replace(storage, database_url=database_url)) as alone:
        alone.push()
        alone.import_model()
        yield alone


def scraped(api: Api) -> dict[str, float]:
    """`name{label=value,…}` -> value, as a token with the scope `metrics` alone sees it."""
    with api.as_user(api.new_user("metrics")) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def announce(database: Database, name: str, reason: HostReason | None = None, *, gpus: int = 0) -> None:
    with database.unit_of_work() as work:
        work.hosts.announce(
            name,
            slots=4,
            memory_bytes=1 << 50,
            gpus=gpus,
            accepting=reason is None,
            reason=reason,
            scratch_free_bytes=5 * 2**30,
        )


def run_to_the_end(database: Database, job: UUID) -> None:
    for state in (S.preparing, S.running, S.uploading, S.succeeded):
        with database.unit_of_work() as work:
            assert work.jobs.transition(job, state, actor="host:one") is not None


def test_figures_tell_of_hosts_jobs_attempts_and_the_scheduler(alone: Api) -> None:
    announce(alone.database, "one", gpus=2)
    announce(alone.database, "full", HostReason.disk_full)
    announce(alone.database, "gone")
    lost, done, waiting = (UUID(alone.submit(name=name)["id"]) for name in ("lost", "done", "waiting"))
    with alone.database.unit_of_work() as work:
        work.hosts.announce_serving("serves", memory_bytes=1, gpus=0)
        work.session.execute(text("UPDATE hosts SET seen_at = seen_at - interval '1 hour' WHERE name = 'gone'"))
        work.jobs.assign(lost, "one", lease_s=-1)
        work.jobs.assign(done, "one", lease_s=600)
    with alone.database.unit_of_work() as work:
        assert [row.id for row in work.jobs.reap()] == [lost]
    run_to_the_end(alone.database, done)
    with alone.database.unit_of_work() as work:
        work.jobs.assign(waiting, "one", lease_s=600)
        work.tallies.add("prompt_tokens", kind="text-generation", count=30)
        work.tallies.add("generated_tokens", kind="text-generation", count=7)
        work.tallies.add("generated_tokens", kind="text-generation", count=5)
    with alone.database.leadership("leader:1", silent_s=10) as leadership:
        assert leadership.acquire()
        leadership.beat(ticks=2, ticks_s=0.5)
        leadership.beat(ticks=1, ticks_s=0.25)
    seen = scraped(alone)

    expected = {
        "eigenwerk_jobs{state=queued}": 1,
        "eigenwerk_jobs{state=assigned}": 1,
        "eigenwerk_jobs{state=succeeded}": 1,
        "eigenwerk_jobs_submitted_total{kind=train-classifier}": 3,
        "eigenwerk_jobs_ended_total{kind=train-classifier,reason=,state=succeeded}": 1,
        "eigenwerk_job_duration_seconds_count{kind=train-classifier,state=succeeded}": 1,
        "eigenwerk_job_duration_seconds_bucket{kind=train-classifier,le=86400.0,state=succeeded}": 1,
        "eigenwerk_attempts_started_total{kind=train-classifier}": 3,
        "eigenwerk_attempts_ended_total{reason=lease_expired,state=queued}": 1,
        "eigenwerk_attempts_ended_total{reason=,state=succeeded}": 1,
        "eigenwerk_attempts_ended_total{reason=host_defect,state=queued}": 0,
        "eigenwerk_lease_expiries_total{}": 1,
        "eigenwerk_hosts{reason=,state=accepting}": 1,
        "eigenwerk_hosts{reason=disk_full,state=refusing}": 1,
        "eigenwerk_hosts{reason=clock_off,state=refusing}": 0,
        "eigenwerk_hosts{reason=,state=serving}": 1,
        "eigenwerk_hosts{reason=,state=silent}": 1,
        "eigenwerk_host_slots{host=one}": 4,
        "eigenwerk_host_slots_used{host=one}": 1,
        "eigenwerk_host_gpus{host=one}": 2,
        "eigenwerk_host_gpus_used{host=one}": 0,
        "eigenwerk_host_scratch_free_bytes{host=one}": 5 * 2**30,
        "eigenwerk_scheduler_leading{}": 1,
        "eigenwerk_scheduler_tick_seconds_count{}": 3,
        "eigenwerk_scheduler_tick_seconds_sum{}": 0.75,
        "eigenwerk_deployments{state=ready}": 0,
        "eigenwerk_tokens_total{direction=prompt,task=text-generation}": 30,
        "eigenwerk_tokens_total{direction=generated,task=text-generation}": 12,
        "eigenwerk_tokens_total{direction=prompt,task=sentence-similarity}": 0,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["eigenwerk_host_silent_seconds{host=gone}"] >= 3600
    assert "eigenwerk_host_slots{host=gone}" not in seen, "a silent host offers nothing"
    assert seen["eigenwerk_queue_age_seconds{}"] > 0
    assert seen["eigenwerk_outbox_unsent{}"] > 0
    assert seen["eigenwerk_job_duration_seconds_sum{kind=train-classifier,state=succeeded}"] > 0
    assert not any(alone.user in name for name in seen)


def test_without_a_scheduler_nobody_leads(alone: Api) -> None:
    assert scraped(alone)["eigenwerk_scheduler_leading{}"] == 0


def test_deployments_whose_worker_is_silent_are_lost(alone: Api) -> None:
    owner = alone.user_id()
    with alone.database.unit_of_work() as work:
        version = work.session.execute(text("SELECT id FROM model_versions")).scalar_one()
        for name, lease_s in (("held", 600), ("lost", -1)):
            row = work.deployments.want(
                owner, name, model_version_id=version, engine="embedded", replicas=1, memory_bytes=1
            )
            assert work.deployments.claim("one", memory_bytes_free=10, lease_s=lease_s) is not None
            assert work.deployments.report(row.id, "one", row.generation, state="ready")
    seen = scraped(alone)
    assert (seen["eigenwerk_deployments{state=ready}"], seen["eigenwerk_deployments{state=lost}"]) == (1, 1)


def test_counters_do_not_fall_when_jobs_are_deleted_and_rows_folded(alone: Api) -> None:
    job = alone.submit()["id"]
    with alone.database.unit_of_work() as work:
        work.jobs.assign(UUID(job), "one", lease_s=600)
        work.jobs.end_attempt(UUID(job), reason=Reason.nan_loss, message="NaN", actor="host:one")
    assert alone.client.delete(f"/v1/jobs/{job}").status_code == 200
    with alone.database.unit_of_work() as work:
        before = work.tallies.totals()
        work.tallies.fold()
    with alone.database.unit_of_work() as work:
        assert sorted(map(str, work.tallies.totals())) == sorted(map(str, before))
        rows = work.session.execute(text("SELECT count(*) FROM tallies")).scalar_one()
    assert rows == len(before)
    seen = scraped(alone)
    assert seen["eigenwerk_attempts_ended_total{reason=nan_loss,state=failed}"] == 1
    assert seen["eigenwerk_jobs_submitted_total{kind=train-classifier}"] == 1


def test_what_is_rolled_back_is_not_counted(alone: Api) -> None:
    job = UUID(alone.submit()["id"])
    with pytest.raises(RuntimeError), alone.database.unit_of_work() as work:
        work.jobs.assign(job, "one", lease_s=600)
        raise RuntimeError
    with alone.database.unit_of_work() as work:
        assert [total.event for total in work.tallies.totals()] == ["job_submitted"]


def test_a_look_at_the_database_serves_all_who_ask_within_seconds(alone: Api) -> None:
    now_s = 100.0
    cache = FiguresCache(alone.database, clock=lambda: now_s)
    first = cache.look()
    alone.submit()
    assert cache.look() is first
    now_s += FRESH_S + 0.1
    assert cache.look().jobs["queued"] == first.jobs.get("queued", 0) + 1


def test_requests_are_timed_by_their_route(alone: Api) -> None:
    assert scraped(alone)["eigenwerk_http_request_seconds_count{method=PUT,route=/v1/datasets/{name},status=201}"] == 1


def test_a_token_for_figures_reads_them_and_nothing_else(api: Api) -> None:
    with api.as_user(api.new_user("metrics")) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/v1/jobs").status_code == 403
        assert client.get("/v1/users/me").status_code == 403
    refused = api.client.get("/metrics")
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "This needs a token with the scope metrics; yours has: write."

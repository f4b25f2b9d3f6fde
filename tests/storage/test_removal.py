"""Deleting in the tables: who is asked first, and what is written down for the object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobspecs.frozen import FrozenInputs, FrozenRegistryModel
from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile, ModelOrigin
from jobspecs.references import Reference
from jobspecs.rights import Reach
from storage.database import Database, UnitOfWork
from storage.repositories.registry.removal import Use
from storage.tables import ModelVersionRow


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def add_model(work: UnitOfWork, name: str, content: int = 0, base: ModelOrigin | None = None) -> ModelVersionRow:
    owner = work.users.ensure("tester")
    manifest = Manifest(
        artifact="model", base=base, files=(ManifestFile(path="w", bytes=100, sha256=f"{content:064d}"),)
    )
    return work.models.add_version(owner.id, name, manifest=manifest, prefix=f"models/{uuid4()}")


def frozen(row: ModelVersionRow) -> FrozenRegistryModel:
    files = Manifest.model_validate(row.manifest).files
    return FrozenRegistryModel(
        version_id=row.id,
        owner="tester",
        name=row.model.name,
        version=row.version,
        digest=row.digest,
        prefix=row.prefix,
        files=files,
    )


def submit(work: UnitOfWork, inputs: FrozenInputs) -> UUID:
    owner = work.users.ensure("tester")
    row, _ = work.jobs.submit(
        owner.id,
        actor="user:tester",
        spec={"kind": "train-classifier", "name": "job", "priority": 0},
        inputs=inputs.model_dump(mode="json"),
        slots=1,
        memory_bytes=1,
        gpus=0,
        max_runtime_s=3600,
        request_sha256="0" * 64,
    )
    return row.id


def test_a_number_of_a_deleted_version_is_never_given_again(database: Database) -> None:
    with database.unit_of_work() as work:
        versions = [add_model(work, "m") for _ in range(3)]
        work.removal.delete_models(versions[1:])
    with database.unit_of_work() as work:
        assert add_model(work, "m").version == 4
        work.removal.delete_models(
            work.models.list_versions(Reach.of(work.users.ensure("tester").id), Reference(name="m"))
        )
    with database.unit_of_work() as work:
        assert add_model(work, "m").version == 5


def test_jobs_deployments_adapters_and_aliases_need_a_version(database: Database) -> None:
    with database.unit_of_work() as work:
        used, other = add_model(work, "base", 1), add_model(work, "base", 2)
        add_model(work, "adapter", 3, ModelOrigin(reference="tester/base@1", digest=used.digest))
        job = submit(work, FrozenInputs(models={"teacher": frozen(used)}))
        owner = used.model.owner_id
        work.deployments.want(owner, "served", model_version_id=used.id, engine="e", replicas=1, memory_bytes=1)
        work.aliases.set(used.model_id, "prod", 1, actor="user:tester")
    with database.unit_of_work() as work:
        needs = [Use("job", str(job), 1), Use("deployment", "served", 1), Use("adapter", "adapter@1", 1)]
        assert work.removal.uses_of_models([used]) == [*needs, Use("alias", "prod", 1)]
        assert work.removal.uses_of_models([other]) == []
        assert work.removal.uses_of_models([used, other]) == needs, "an alias goes with its model"
        work.jobs.request_cancel(job, actor="user:tester")
        assert work.removal.uses_of_models([used])[0].kind == "deployment"


def test_an_adapter_needs_no_version_whose_files_are_in_another_one_too(database: Database) -> None:
    with database.unit_of_work() as work:
        first, same = add_model(work, "base", 1), add_model(work, "copy", 1)
        add_model(work, "adapter", 3, ModelOrigin(reference="tester/base@1", digest=first.digest))
        assert work.removal.uses_of_models([first]) == []
        work.removal.delete_models([first])
        assert [use.kind for use in work.removal.uses_of_models([same])] == ["adapter"]


def test_a_job_is_not_queued_with_inputs_that_are_being_deleted(
    database: Database, in_parallel: Callable[..., list[object]]
) -> None:
    with database.unit_of_work() as work:
        version = add_model(work, "base")
    inputs = FrozenInputs(model=frozen(version))

    def use() -> bool:
        with database.unit_of_work() as work:
            held = work.removal.hold(inputs)
            if held:
                submit(work, inputs)
            return held

    def remove() -> bool:
        with database.unit_of_work() as work:
            free = not work.removal.uses_of_models([version])
            if free:
                work.removal.delete_models([version])
            return free

    used, removed = in_parallel(lambda number: (use, remove)[number](), 2)
    assert used is not removed


def test_only_an_ended_job_is_deleted_and_what_it_made_stays(database: Database) -> None:
    with database.unit_of_work() as work:
        job = submit(work, FrozenInputs())
        owner = work.users.ensure("tester")
        assert work.removal.delete_job(job) is None
        for _ in range(2):
            work.jobs.assign(job, "gone", lease_s=60)
            work.jobs.transition(job, JobState.queued, actor="reaper")
        work.jobs.assign(job, "host", lease_s=60)
        for state in (JobState.preparing, JobState.running, JobState.uploading, JobState.succeeded):
            assert work.jobs.transition(job, state, actor="host:host")
        prefix = f"artifacts/{job}/3"
        manifest = Manifest(artifact="model", files=())
        work.models.add_version(owner.id, "made", manifest=manifest, prefix=prefix, job_id=job, fence=3)
    with database.unit_of_work() as work:
        assert work.removal.delete_job(job) == 0
        assert work.jobs.get(job) is None
    with database.unit_of_work() as work:
        versions = work.models.list_versions(Reach.of(owner.id), Reference(name="made"))
        assert [(row.job_id, row.prefix) for row in versions] == [(None, prefix)]
        assert set(work.garbage.claim()) == {f"checkpoints/{job}", f"artifacts/{job}/1", f"artifacts/{job}/2"}


def test_nothing_is_forgotten_of_what_a_retry_is_adopting_just_now(database: Database) -> None:
    manifest = Manifest(artifact="checkpoint", files=(ManifestFile(path="state", bytes=1, sha256="0" * 64),))
    with database.unit_of_work() as work:
        retried, retry = submit(work, FrozenInputs()), submit(work, FrozenInputs())
        work.jobs.assign(retried, "host", lease_s=60)
        assert work.checkpoints.add(retried, 1, 1, prefix=f"checkpoints/{retried}/1/step-1", manifest=manifest)
        assert work.jobs.transition(retried, JobState.failed, actor="reaper")

    def forget() -> list[str]:
        with database.unit_of_work() as work:
            return [row.prefix for row in work.checkpoints.forget(retried, keep=0)]

    def waits(work: UnitOfWork) -> bool:
        return bool(work.session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    with ThreadPoolExecutor(1) as pool:
        with database.unit_of_work() as work:
            assert work.removal.uses_of_job(retried) == []
            assert work.checkpoints.adopt(retried, retry) == 1
            forgetting = pool.submit(forget)
            while not forgetting.done() and not waits(work):
                pass
        assert forgetting.result() == [], "the retry names it now"


def test_garbage_is_claimed_once_and_later_again_and_nobody_takes_it_back_then(database: Database) -> None:
    with database.unit_of_work() as work:
        work.garbage.add("datasets/a", bytes_total=5)
        work.garbage.add("datasets/b", bytes_total=7, after_s=86_400)  # as a push does
    with database.unit_of_work() as work:
        assert work.garbage.claim() == ["datasets/a"]
        assert work.garbage.claim() == []
        assert work.garbage.bytes_waiting() == 5
        assert not work.garbage.take_back("datasets/a")
        assert work.garbage.take_back("datasets/b")
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE garbage SET due_at = due_at - interval '2 minutes'"))
        assert work.garbage.claim() == ["datasets/a"], "again and again until it worked"

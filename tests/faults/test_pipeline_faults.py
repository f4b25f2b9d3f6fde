"""A pipeline of real small steps while its scheduler is killed and Redis loses everything."""

from __future__ import annotations

import redis

from deploy.embedded.stack import EmbeddedServices
from jobspecs.lifecycle import JobState
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.references import parse_reference
from jobspecs.rights import Reach
from storage.repositories.jobs.pipelines import NewStep
from tests.workers.harness import Harness
from tests.workers.pipelines import job_step, register_inputs, steps_of, submit_pipeline, wait_for_pipeline

SHORT = {"epochs": 1, "batch_size": 16}


def test_a_pipeline_goes_on_over_killed_schedulers_and_a_flushed_redis(
    platform: Harness, services: EmbeddedServices
) -> None:
    before = platform.model, platform.dataset
    register_inputs(platform)
    promote = NewStep(
        "promote",
        "alias",
        {"kind": "alias", "alias": "prod", "model": "$further.model"},
        "$further.accuracy > 0 and not $prod.exists",
        ("further",),
        StepInputs(models={"model": "further"}),
    )
    steps = [
        job_step(platform, "pre", training=SHORT),
        job_step(platform, "beside", training=SHORT),
        job_step(platform, "further", "beside", reads="pre", training=SHORT),
        promote,
    ]
    pipeline_id = submit_pipeline(platform, "faults", steps, models={"prod": "further@prod"})
    for _ in range(3):
        platform.until(lambda: any(step.state == "running" for step in steps_of(platform, pipeline_id)), 60, "a step")
        scheduler = next(process for process in platform.processes if "workers.scheduler" in str(process.args))
        scheduler.kill()
        scheduler.wait()
        platform.processes.remove(scheduler)
        redis.Redis.from_url(services.redis_url).flushall()
        platform.start_scheduler()
    assert wait_for_pipeline(platform, pipeline_id).state == "succeeded"
    found = steps_of(platform, pipeline_id)
    assert [step.state for step in found] == ["succeeded"] * 4
    jobs = [step.job_id for step in found if step.job_id is not None]
    assert [platform.job(job_id).state for job_id in jobs] == [JobState.succeeded] * 3
    with platform.database.unit_of_work() as work:
        reach = Reach.of(platform.job(jobs[0]).owner_id)
        begun = [job.name for job in work.jobs.list(reach, limit=200) if job.name in ("pre", "beside", "further")]
        made = work.models.find(reach, parse_reference("further@prod"))
    assert sorted(begun) == ["beside", "further", "pre"]
    assert made is not None and made.lineage is not None
    assert made.lineage["pipeline"] == {"id": str(pipeline_id), "name": "faults", "step": "further"}
    platform.model, platform.dataset = before

"""Begins a trial: its values are found, and its job is queued by the rules that hold for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jobspecs.frozen import SweepOrigin
from jobspecs.problems import InvalidInput
from jobspecs.sweeps.frozen import SweepPlan, references_of
from jobspecs.sweeps.lifecycle import CONFIRMATION, SETTLED, TrialReason, TrialState
from jobspecs.sweeps.meaning import Sweep
from scheduling.sweeps import Begin
from storage.database import UnitOfWork
from storage.tables import SweepRow, SweepTrialRow
from workers.scheduler.sweeps.sampling import Tried, suggested


def begin(work: UnitOfWork, row: SweepRow, sweep: Sweep, trials: Mapping[int, SweepTrialRow], action: Begin) -> None:
    """Queues the job of a trial and notes the trial, in the caller's transaction. A trial that can't begin fails."""
    number = action.number
    if action.winner is not None:
        values: dict[str, Any] = trials[action.winner].values
        work.sweeps.name_winner(row.id, action.winner)
    else:
        values = sweep.point(number) or _suggested(work, row, sweep)
    try:
        spec = sweep.spec_of(values, number)
        variant = SweepPlan.model_validate(row.plan).variant_of(references_of(spec))
    except (InvalidInput, KeyError) as error:
        work.sweeps.refuse(row.id, number, values, TrialReason.refused, str(error))
        return
    origin = SweepOrigin(id=row.id, name=row.name, trial=number)
    inputs = variant.inputs.model_copy(update={"sweep": origin})
    if not work.removal.hold(inputs):
        told = "A model or data set that it should read was deleted."
        work.sweeps.refuse(row.id, number, values, TrialReason.input_deleted, told)
        return
    document = spec.model_dump(mode="json")
    job, _ = work.jobs.submit(
        row.owner_id,
        actor=f"sweep:{row.name}",
        spec=document,
        inputs=inputs.model_dump(mode="json"),
        slots=1,
        memory_bytes=variant.memory_bytes,
        gpus=spec.resources.gpus,
        max_runtime_s=spec.resources.max_runtime.total_seconds(),
        request_sha256=hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        warnings=[warning.model_dump(mode="json") for warning in variant.warnings],
    )
    work.sweeps.begin(row.id, number, values, job.id)


def _suggested(work: UnitOfWork, row: SweepRow, sweep: Sweep) -> dict[str, Any]:
    tried = [
        Tried(
            values=trial.values,
            value=trial.value,
            losses=trial.rungs if trial.state == TrialState.stopped else (),
            ended=TrialState(trial.state) in SETTLED,
        )
        for trial in work.sweeps.trials(row.id)
        if trial.number != CONFIRMATION
    ]
    return suggested(sweep.dimensions, tried, seed=sweep.document.seed, goal=sweep.goal)

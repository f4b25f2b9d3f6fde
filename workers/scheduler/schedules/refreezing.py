"""References of a scheduled spec that are no fixed version mean, at each run, what they mean then.

What needs a network, a model of a hub, stays at the commit that it had when the schedule was made.
"""

from __future__ import annotations

from collections.abc import Collection

from jobspecs.frozen import FrozenInputs, FrozenModel
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE, SpecBase
from jobspecs.manifest import Manifest
from jobspecs.pipelines.steps import StepSpec
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from jobspecs.references import parse_reference
from jobspecs.rights import Reach
from storage.database import UnitOfWork
from storage.frozen_versions import frozen_base, frozen_dataset, frozen_version

#: What a spec calls its data sets -> what frozen inputs call them.
_ROLES = {"dataset": "dataset", "validation": "held_out", "test": "test"}


def refrozen(
    work: UnitOfWork, reach: Reach, spec: StepSpec, frozen: FrozenInputs, left_open: Collection[str] = ()
) -> FrozenInputs:
    """What the spec reads now. `frozen`: what it read when it was checked; `left_open`: what earlier steps will make.

    Whatever is not what was checked is checked by the job's first stage. Raises InvalidInput for what is gone, and for
    rows that the spec can't work with.
    """
    changes: dict[str, object] = _datasets(work, reach, spec, left_open) if isinstance(spec, SpecBase) else {}
    models: dict[str, FrozenModel] = dict(frozen.by_role())
    for role, text in spec.model_references().items():
        reference = parse_reference(text)
        if role not in left_open and reference.source != "hub":
            models.pop(role + ADAPTER_BASE_SUFFIX, None)
            models.update(_model(work, reach, role, text))
    changes |= {"model": models.pop(BASE_ROLE, None), "models": models}
    made = frozen.model_copy(update=changes)
    if made.held_out is not None and made.test is not None and made.held_out.sha256 == made.test.sha256:
        message = "it has the same rows as those that choose by now."
        raise InvalidInput([Problem(field="test.dataset", message=message, remedy="Name rows that do nothing else.")])
    same = made.datasets_by_role() == frozen.datasets_by_role() and made.by_role() == frozen.by_role()
    return made if same else made.model_copy(update={"checked": False})


def _datasets(work: UnitOfWork, reach: Reach, spec: SpecBase, left_open: Collection[str]) -> dict[str, object]:
    """Field of the frozen inputs -> the data set."""
    found: dict[str, object] = {}
    for field, text in spec.dataset_references().items():
        if field in left_open:
            continue
        row = work.datasets.find(reach, parse_reference(text))
        if row is None:
            raise _gone(field, text)
        if field == "dataset" and (problems := spec.problems_with(DatasetProfile.model_validate(row.profile))):
            raise InvalidInput(problems)
        found[_ROLES[field]] = frozen_dataset(row)
    return found


def _model(work: UnitOfWork, reach: Reach, role: str, text: str) -> dict[str, FrozenModel]:
    row = work.models.find(reach, parse_reference(text))
    if row is None:
        raise _gone(role, text)
    found: dict[str, FrozenModel] = {role: frozen_version(work, row)}
    base = Manifest.model_validate(row.manifest).base
    if base is not None:
        known = frozen_base(work, reach, base)
        if known is None:
            raise _gone(role, f"{base.reference}, which {text} is an adapter for,")
        found[role + ADAPTER_BASE_SUFFIX] = known
    return found


def _gone(field: str, text: str) -> InvalidInput:
    return InvalidInput(
        [Problem(field=field, message=f"there is no {text} any more.", remedy="Make the schedule anew.")]
    )

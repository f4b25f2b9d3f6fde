"""Freezes the references of a spec: what they mean now is what the job reads, whatever is pushed or moved later."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from api.references.hub import HubModel
from jobspecs.frozen import FrozenDataset, FrozenHubModel, FrozenInputs, FrozenModel, FrozenRegistryModel
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from jobspecs.references import Reference, parse_reference
from jobspecs.registry import JobSpec
from jobspecs.rights import Principal
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from storage.database import UnitOfWork
from storage.frozen_versions import frozen_base, frozen_dataset, frozen_version, weights_bytes


@dataclass(frozen=True)
class PinnedDataset:
    frozen: FrozenDataset
    profile: DatasetProfile


@dataclass(frozen=True)
class PinnedModel:
    """`frozen`: by role, an adapter's base included. `task`: what the model serves; None for a bare encoder."""

    frozen: dict[str, FrozenModel]
    task: str | None


@dataclass(frozen=True)
class Frozen:
    """All references of a spec, and what is known of what they mean."""

    inputs: FrozenInputs
    #: Of the data set; None when the job reads none.
    profile: DatasetProfile | None
    #: Role -> bytes of the model's stored weights.
    weights_bytes: dict[str, int]


#: What a spec's data sets are for -> the field that names it.
_FIELDS = {"dataset": "dataset", "validation": "validation.dataset", "test": "test.dataset"}


def freeze(
    work: UnitOfWork,
    user: Principal,
    spec: JobSpec,
    hub_models: Mapping[str, HubModel],
    left_open: Collection[str] = (),
) -> Frozen:
    """`hub_models`: role -> what the hub said of it. `left_open`: roles of models, and of data sets as the spec calls
    them, whose content is not there yet. Raises InvalidInput for whatever the user does not have.
    """
    datasets = {
        field: freeze_dataset(work, user, parse_reference(reference), _FIELDS[field])
        for field, reference in spec.dataset_references().items()
        if field not in left_open
    }
    _check_apart(datasets)
    models: dict[str, FrozenModel] = {}
    tasks: dict[str, str | None] = {}
    for role, text in spec.model_references().items():
        if role in hub_models:
            models[role] = hub_models[role].frozen
        elif role not in left_open:
            pinned = freeze_model(work, user, role, parse_reference(text))
            models.update(pinned.frozen)
            tasks[role] = pinned.task
    if problems := spec.problems_of_models(tasks):
        raise InvalidInput(problems)
    weights = {
        role: (hub_models[role].weights_bytes or TYPICAL_WEIGHTS_BYTES)
        if isinstance(model, FrozenHubModel)
        else weights_bytes(model)
        for role, model in models.items()
        if role in hub_models or isinstance(model, FrozenRegistryModel)
    }
    frozen = {field: pinned.frozen for field, pinned in datasets.items()}
    inputs = FrozenInputs(
        dataset=frozen.get("dataset"),
        held_out=frozen.get("validation"),
        test=frozen.get("test"),
        model=models.pop(BASE_ROLE, None),
        models=models,
    )
    return Frozen(inputs, datasets["dataset"].profile if "dataset" in datasets else None, weights)


def _check_apart(datasets: Mapping[str, PinnedDataset]) -> None:
    """Raises InvalidInput when two names mean the same rows: those that choose can't judge."""
    validation, test = datasets.get("validation"), datasets.get("test")
    if validation is not None and test is not None and validation.frozen.sha256 == test.frozen.sha256:
        message = f"{test.frozen.reference} has the same rows as {validation.frozen.reference}, which choose."
        raise InvalidInput([Problem(field=_FIELDS["test"], message=message, remedy="Name rows that do nothing else.")])


def freeze_dataset(work: UnitOfWork, user: Principal, reference: Reference, field: str = "dataset") -> PinnedDataset:
    """Raises InvalidInput, naming the field, when the user has no such data set or version."""
    row = work.datasets.find(user.reach("datasets.read"), reference)
    if row is None:
        raise _unknown(field, f"you have no data set {reference}.", "Push it: eigenwerk datasets push FILE")
    return PinnedDataset(frozen_dataset(row), DatasetProfile.model_validate(row.profile))


def freeze_model(work: UnitOfWork, user: Principal, role: str, reference: Reference) -> PinnedModel:
    """Role -> model, and the model's task; an adapter brings its base in a role of its own.

    Raises InvalidInput, naming the role as the field, when the user has no such model, version, alias or base.
    """
    row = work.models.find(user.reach("models.read"), reference)
    if row is None:
        raise _unknown(
            role,
            f"you have no model {reference}.",
            "Import it: eigenwerk models import DIR --name NAME, or take one from the hub: hub:org/name",
        )
    found: dict[str, FrozenModel] = {role: frozen_version(work, row)}
    manifest = Manifest.model_validate(row.manifest)
    if manifest.base is not None:
        found[role + ADAPTER_BASE_SUFFIX] = freeze_base(work, user, role, reference, manifest.base)
    return PinnedModel(found, manifest.task)


def freeze_base(
    work: UnitOfWork, user: Principal, role: str, adapter: Reference, base: ModelOrigin
) -> FrozenRegistryModel | FrozenHubModel:
    """The model that an adapter changes: by digest, whatever its name means now. Raises InvalidInput without it."""
    found = frozen_base(work, user.reach("models.read"), base)
    if found is None:
        raise _unknown(
            role,
            f"{adapter} is an adapter for {base.reference}, and you have no model with its digest "
            f"{str(base.digest)[:12]}…",
            "Import that base model again.",
        )
    return found


def _unknown(field: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field=field, message=message, remedy=remedy)])

"""What a fine-tuning request means: a job spec of the kind finetune-llm."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel

from api.fine_tuning.schemas import DpoHyperparameters, FineTuningRequest, Hyperparameters
from jobspecs.deploying import Deploying
from jobspecs.kinds.finetune_llm import FinetuneLlm, default_learning_rate
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference

KIND = "finetune-llm"
OBJECTIVES: dict[str, Literal["sft", "dpo"]] = {"supervised": "sft", "dpo": "dpo"}
#: Fields of the spec that the request says in its own way.
_SAID_OTHERWISE = {"kind": "it is always finetune-llm", "dataset": "write training_file"}
#: Hyperparameter -> field of the spec's `training`.
FIELDS = {"n_epochs": "epochs", "batch_size": "batch_size", "beta": "beta"}
_RATE = "learning_rate_multiplier"
#: Sleeps after ten minutes without a request.
_DEPLOYING = Deploying(idle_after_s=600)
_NAME_CHARS_MAX = 128


def document_of(request: FineTuningRequest, training: str, validation: str | None) -> dict[str, Any]:
    """The spec, to be parsed. `training`, `validation`: references to data sets. Raises InvalidInput."""
    more: dict[str, Any] = dict(request.model_extra or {})
    for name, why in _SAID_OTHERWISE.items():
        if name in more:
            raise _twice(name, f"{why}.")
    document = {"name": _name(request), **more, "kind": KIND, "model": request.model, "dataset": training}
    if request.method is not None:
        document["objective"] = OBJECTIVES[request.method.type]
    hyperparameters = request.method.hyperparameters if request.method is not None else request.hyperparameters
    said = _training(hyperparameters or Hyperparameters(), document)
    if request.seed is not None:
        said["seed"] = request.seed
    if said:
        document["training"] = _merged("training", more.get("training"), said)
    if validation is not None:
        document["validation"] = _merged("validation", more.get("validation"), {"dataset": validation})
    return document


def first_use_of(request: FineTuningRequest) -> Deploying | None:
    if isinstance(request.deploy_on_first_use, Deploying):
        return request.deploy_on_first_use
    return _DEPLOYING if request.deploy_on_first_use else None


def in_words_of_request(error: InvalidInput, request: FineTuningRequest) -> InvalidInput:
    """The same, with the fields that the client wrote."""
    where = f"method.{request.method.type}.hyperparameters" if request.method is not None else "hyperparameters"
    names = {f"training.{field}": f"{where}.{name}" for name, field in FIELDS.items()}
    names |= {"training.learning_rate": f"{where}.{_RATE}", "dataset": "training_file"}
    names |= {"validation.dataset": "validation_file", "training.seed": "seed"}
    written = _written(request)
    return InvalidInput(
        [
            problem.model_copy(update={"field": names[problem.field]})
            if problem.field in names and problem.field not in written
            else problem
            for problem in error.problems
        ]
    )


def _written(request: FineTuningRequest) -> set[str]:
    """Fields of the spec that the client has named as such."""
    more = request.model_extra or {}
    return {
        f"{section}.{field}"
        for section in ("training", "validation")
        if isinstance(more.get(section), dict)
        for field in more[section]
    }


def _training(hyperparameters: Hyperparameters, document: dict[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in hyperparameters.model_dump().items() if value != "auto"}
    fields = {FIELDS[name]: value for name, value in said.items() if name in FIELDS}
    if _RATE in said:
        rate = default_learning_rate(document.get("objective", "sft"), document.get("tuning", "lora"))
        fields["learning_rate"] = float(f"{rate * said[_RATE]:.6g}")
    return fields


def _merged(section: str, written: Any, said: dict[str, Any]) -> dict[str, Any]:
    """Raises InvalidInput for what is said in both ways."""
    if written is None:
        return said
    if not isinstance(written, dict):
        raise InvalidInput([Problem(field=section, message="it must be an object with fields.")])
    for name in said:
        if name in written:
            raise _twice(f"{section}.{name}", "the request says it in OpenAI's field already.")
    return {**written, **said}


def _twice(field: str, why: str) -> InvalidInput:
    return InvalidInput([Problem(field=field, message=why, remedy="Leave this one out.")])


def _name(request: FineTuningRequest) -> str:
    """`ft-smollm2-suffix`: of the base and the suffix, as OpenAI's names are."""
    try:
        base = parse_reference(request.model).name
    except ValueError:
        base = ""
    parts = ["ft", base, re.sub(r"[^A-Za-z0-9._-]+", "-", request.suffix or "").strip("-")]
    return "-".join(part for part in parts if part)[:_NAME_CHARS_MAX]


def method_of(spec: FinetuneLlm) -> dict[str, Any]:
    """The method that the spec has, with its hyperparameters as OpenAI names them."""
    kind = next((name for name, objective in OBJECTIVES.items() if objective == spec.objective), spec.objective)
    return {"type": kind, kind: {"hyperparameters": hyperparameters_of(spec)}}


def hyperparameters_of(spec: FinetuneLlm) -> dict[str, Any]:
    training = spec.training
    fields: type[BaseModel] = DpoHyperparameters if spec.objective == "dpo" else Hyperparameters
    shown = {name: getattr(training, field) for name, field in FIELDS.items() if name in fields.model_fields}
    rate = default_learning_rate(spec.objective, spec.tuning)
    return {**shown, _RATE: float(f"{training.learning_rate / rate:.6g}")}

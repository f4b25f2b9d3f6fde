"""llama.cpp's server, seen from the inference worker: `llama-server` on PATH, else the `xllamacpp` wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from jobspecs.engines import LLAMACPP
from jobspecs.lifecycle import Reason
from scheduling.estimates.engine_memory import LLAMACPP_SEQUENCES, TOKENS_MIN
from scheduling.estimates.gguf import GgufFacts, read_facts
from scheduling.estimates.serving import GGUF_RUNTIME_BYTES
from workers.engines.interface import EngineOrder, Installed, Launch, Measured, StartsOnly
from workers.run.context import RunFailed

#: Answers that grow at once where the deployment says nothing; they share the context.
SLOTS = LLAMACPP_SEQUENCES
#: Of the context of all answers together, however much memory there is.
_CONTEXT_MAX = 131_072
_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class Files:
    """What a folder has for llama.cpp."""

    model: Path
    facts: GgufFacts
    adapters: tuple[Path, ...]


class LlamaCpp(StartsOnly):
    """GGUF files, as they were registered. Adapters in the folder are loaded with the model (see `files_of`)."""

    kind = LLAMACPP
    measured = Measured(
        prompt_tokens="llamacpp:prompt_tokens_total",
        generated_tokens="llamacpp:tokens_predicted_total",
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
    )

    def installed(self) -> Installed | None:
        if (program := shutil.which("llama-server")) is not None:
            return Installed(f"llama-server ({program})")
        if importlib.util.find_spec("xllamacpp") is not None:
            return Installed(f"xllamacpp {importlib.metadata.version('xllamacpp')}")
        return None

    def served_name(self, order: EngineOrder) -> str | None:
        return None

    def launch(self, order: EngineOrder, folder: Path) -> Launch:
        found = files_of(order.model_dir)
        context, slots = context_tokens(found, order), order.sequences or SLOTS
        program = shutil.which("llama-server")
        if program is None:
            settings = {
                "model": str(found.model),
                "adapters": [[str(path), scale] for path, scale in scaled(found.adapters)],
                "name": order.model,
                "port": order.port,
                "context": context,
                "slots": slots,
                "threads": order.threads,
                "gpu": bool(order.gpu_ids),
            }
            argv: tuple[str, ...] = (sys.executable, "-m", "workers.engines.llamacpp.server", json.dumps(settings))
        else:
            argv = (program, *_flags(order, found, context, slots))
        return Launch(argv, {"LLAMA_API_KEY": order.key})


def _flags(order: EngineOrder, found: Files, context: int, slots: int) -> list[str]:
    """Of `llama-server`; sampling as OpenAI has it where a request says nothing."""
    adapters = [f"{path}:{scale}" for path, scale in scaled(found.adapters)]
    return [
        *("--model", str(found.model), "--alias", order.model, "--host", "127.0.0.1", "--port", str(order.port)),
        *("--reuse-port", "--ctx-size", str(context), "--parallel", str(slots), "--kv-unified"),
        *("--threads", str(order.threads), "--n-gpu-layers", "999" if order.gpu_ids else "0"),
        *("--temp", "1", "--top-p", "1", "--top-k", "0", "--min-p", "0"),
        *("--metrics", "--no-slots", "--no-webui", "--offline", "--jinja", "--cache-ram", "0"),
        *("--fit", "off"),
        *(("--lora-scaled", ",".join(adapters)) if adapters else ()),
    ]


def files_of(folder: Path) -> Files:
    """The model and its adapters (GGUF files whose `general.type` says so). Raises RunFailed(invalid_model)."""
    models, adapters = [], []
    for path in sorted(folder.rglob("*.gguf")):
        part = _PART.search(path.name)
        if part is not None and part[1] != "00001":
            continue
        try:
            facts = read_facts(path)
        except (ValueError, TypeError) as error:
            raise RunFailed(Reason.invalid_model, f"{path.name}: {error}.") from error
        adapters.append(path) if facts.is_adapter else models.append((path, facts))
    if len(models) != 1:
        found = ", ".join(path.name for path, _ in models) or "none"
        raise RunFailed(
            Reason.invalid_model,
            f"llama.cpp serves one GGUF model; this version has: {found}. Register each as a model of its own.",
        )
    return Files(*models[0], tuple(adapters))


def scaled(adapters: tuple[Path, ...]) -> list[tuple[Path, float]]:
    """One adapter is meant; of several a request chooses, by `lora`: [{"id": their place, "scale": 1.0}]."""
    scale = 1.0 if len(adapters) == 1 else 0.0
    return [(path, scale) for path in adapters]


def context_tokens(files: Files, order: EngineOrder) -> int:
    """Tokens of context for all answers together: so many as were declared, else as memory holds.

    Raises RunFailed(unsatisfiable) when memory has no room for them. On a GPU main memory holds none.
    """
    slots, trained, memory_bytes = order.sequences or SLOTS, files.facts.context_tokens, order.memory_bytes
    declared = order.context_tokens is not None or order.sequences is not None
    most = slots * (order.context_tokens or trained) or _CONTEXT_MAX
    most = most if declared else min(_CONTEXT_MAX, most)
    if memory_bytes is None or order.gpu_ids or not files.facts.cache_bytes_per_token:
        return most
    weights_bytes = sum(path.stat().st_size for path in (files.model, *files.adapters))
    room = memory_bytes - weights_bytes - GGUF_RUNTIME_BYTES
    fitting = room // files.facts.cache_bytes_per_token
    least = most if declared else min(TOKENS_MIN, most)
    if fitting < least:
        needed = weights_bytes + GGUF_RUNTIME_BYTES + least * files.facts.cache_bytes_per_token
        raise RunFailed(
            Reason.unsatisfiable,
            f"Each replica of this deployment has {memory_bytes / 2**30:.2f} GiB of memory, and this model needs "
            f"{needed / 2**30:.2f} GiB for {least:,} tokens. Deploy it with a larger memory_gib, or without one.",
        )
    return min(most, fitting)

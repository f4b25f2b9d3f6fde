"""text-generation-inference (TGI), seen from the inference worker: `text-generation-launcher` on PATH.

One base per process, adapters at the start only: a change is another process, which takes over when it is ready.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from jobspecs.engines import TGI, TGI_MODEL
from jobspecs.lifecycle import Reason
from scheduling.estimates.engine_memory import GPU_SHARE
from workers.engines.interface import EngineOrder, Installed, Launch, Measured, StartsOnly
from workers.engines.tgi.export import export_adapter, export_model
from workers.run.context import RunFailed

LAUNCHER, ROUTER = "text-generation-launcher", "text-generation-router"
#: What requests call an adapter that is deployed by itself.
ADAPTER = "adapter"
#: Seconds for the last bytes: its attendant tells it to end when no answer is in hand.
_GRACE_S = 10

#: The launcher writes its settings into its log, the key among them, and gives it to the router on its command line. So
#: it is not told: it finds this program in the router's place, which has the key and becomes the router.
_ROUTER_PROGRAM = """#!{python}
import os, sys
os.environ["API_KEY"] = os.environ.pop("EIGENWERK_ENGINE_KEY")
os.execv({router!r}, [{router!r}, *sys.argv[1:]])
"""


class Tgi(StartsOnly):
    """Reads what `export` makes of a model of transformers 5."""

    kind = TGI
    measured = Measured(
        prompt_tokens="tgi_request_input_length_sum",
        generated_tokens="tgi_request_generated_tokens_sum",
        running="tgi_batch_current_size",
        waiting="tgi_queue_size",
    )

    def installed(self) -> Installed | None:
        program = shutil.which(LAUNCHER)
        return None if program is None else Installed(f"{LAUNCHER} ({program})")

    def served_name(self, order: EngineOrder) -> str | None:
        if order.base_dir is not None:
            return ADAPTER
        return TGI.told(TGI_MODEL, [adapter.name for adapter in order.adapters])

    def launch(self, order: EngineOrder, folder: Path) -> Launch:
        launcher, router = shutil.which(LAUNCHER), shutil.which(ROUTER)
        if launcher is None or router is None:
            raise RunFailed(Reason.unsatisfiable, f"This host has no {LAUNCHER} and {ROUTER} on its PATH.")
        model = export_model(order.base_dir or order.model_dir, folder / "model")
        variables = {
            "PATH": f"{_with_the_key(folder / 'bin', router)}{os.pathsep}{os.environ['PATH']}",
            "EIGENWERK_ENGINE_KEY": order.key,
        }
        if loras := _loras(order):
            exported = {name: folder / "adapters" / str(place) for place, name in enumerate(loras)}
            variables["LORA_ADAPTERS"] = ",".join(
                f"{name}={export_adapter(loras[name], path, model)}" for name, path in exported.items()
            )
        prometheus, master = _free_ports(2)
        flags = [
            *("--model-id", str(model), "--hostname", "127.0.0.1", "--port", str(order.port)),
            # Of every process its own: two on a host would otherwise take each other's.
            *("--prometheus-port", str(prometheus), "--master-port", str(master)),
            *("--shard-uds-path", str(folder / "shard"), "--usage-stats", "off"),
            *("--graceful-termination-timeout", str(_GRACE_S)),
        ]
        if order.context_tokens is not None:
            longest = str(order.context_tokens)
            flags += ["--max-input-tokens", str(order.context_tokens - 1), "--max-total-tokens", longest]
            flags += ["--max-batch-prefill-tokens", longest]
        if order.context_tokens is not None and order.sequences is not None:
            flags += ["--max-batch-total-tokens", str(order.context_tokens * order.sequences)]
        if order.gpu_ids:
            flags += ["--cuda-memory-fraction", str(GPU_SHARE)]
        return Launch((launcher, *flags), variables)


def _loras(order: EngineOrder) -> dict[str, Path]:
    """By what requests call them: the one that is deployed by itself, or those beside the model."""
    if order.base_dir is not None:
        return {ADAPTER: order.model_dir}
    return {TGI.adapter_name(adapter.name): adapter.folder for adapter in order.adapters}


def _with_the_key(folder: Path, router: str) -> Path:
    folder.mkdir()
    program = folder / ROUTER
    program.write_text(_ROUTER_PROGRAM.format(python=sys.executable, router=router), encoding="utf-8")
    program.chmod(0o700)
    return folder


def _free_ports(count: int) -> list[int]:
    """Of loopback, free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()

"""llama.cpp's server out of the `xllamacpp` wheel: `python -m workers.engines.llamacpp.server SETTINGS` (JSON).

The key comes as LLAMA_API_KEY, as `llama-server` takes it. Ends at SIGTERM, which its attendant sends when no answer is
in hand.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import xllamacpp

#: From sysexits.h: it can't serve this model (`workers.engines.attendant`).
EXIT_CANT_SERVE = 65
_ALL_LAYERS = 999


def parameters(settings: dict[str, Any], key: str) -> xllamacpp.CommonParams:
    """As `llama-server`'s flags of the same names, with OpenAI's sampling where a request says nothing."""
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = {settings["name"]}
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, scale) for path, scale in settings["adapters"]]
    params.hostnames, params.port, params.reuse_port = ["127.0.0.1"], settings["port"], True
    params.api_keys = [key]
    params.n_ctx, params.n_parallel, params.kv_unified = settings["context"], settings["slots"], True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = _ALL_LAYERS if settings["gpu"] else 0
    # What was asked for is what is used: it neither shrinks the context by itself nor keeps prompts beside it.
    params.fit_params, params.cache_ram_mib = False, 0
    params.endpoint_metrics, params.endpoint_slots, params.ui, params.offline = True, False, False, True
    sampling = params.sampling
    sampling.temp, sampling.top_p, sampling.top_k, sampling.min_p = 1.0, 1.0, 0, 0.0
    return params


def main(settings: dict[str, Any], key: str) -> int:
    signals = {signal.SIGTERM, signal.SIGINT}
    # Before the library starts its threads, which inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        server = xllamacpp.Server(parameters(settings, key))
    except Exception as error:
        sys.stderr.write(f"llama.cpp can't load this model: {error}\n")
        return EXIT_CANT_SERVE
    sys.stderr.write(f"serving at {server.listening_address}\n")
    signal.sigwait(signals)
    # The library has no way to stop it, and its threads would keep an ordinary exit waiting.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), os.environ["LLAMA_API_KEY"]))

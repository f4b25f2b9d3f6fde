"""`vllm serve` of vLLM 0.32: the flags, variables and routes of its documents that a platform has to do with."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.workers.engines.stand_ins.story import CHAT, COMPLETIONS, CONTEXT, Counts, Handler, Refused, prompt_of

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: Those that the published lists have and that a platform may set; an unknown VLLM_… ends the program.
_VARIABLES = {
    *("VLLM_API_KEY", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_NO_USAGE_STATS", "VLLM_SERVER_DEV_MODE"),
    *("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE"),
}


def _flags(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    serve = parser.add_subparsers(required=True).add_parser("serve", allow_abbrev=False)
    serve.add_argument("--model", required=True, type=Path)
    serve.add_argument("--served-model-name", required=True)
    serve.add_argument("--host", required=True)
    serve.add_argument("--port", required=True, type=int)
    serve.add_argument("--generation-config", choices=["vllm"], required=True)
    serve.add_argument("--middleware", action="append", default=[])
    serve.add_argument("--enable-lora", action="store_true")
    serve.add_argument("--max-loras", type=int)
    serve.add_argument("--max-lora-rank", type=int, choices=_RANKS)
    serve.add_argument("--lora-modules", type=json.loads, nargs="+", default=[])
    serve.add_argument("--enable-sleep-mode", action="store_true")
    serve.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"])
    serve.add_argument("--max-model-len", type=int)
    serve.add_argument("--max-num-seqs", type=int)
    serve.add_argument("--gpu-memory-utilization", type=float)
    serve.add_argument("--enforce-eager", action="store_true")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    flags = _flags(words)
    unknown = {name for name in os.environ if name.startswith("VLLM_")} - _VARIABLES
    if unknown or "--api-key" in words:
        raise SystemExit(f"unknown variables: {sorted(unknown)}")
    if not (flags.model / "config.json").is_file():
        raise SystemExit(f"{flags.model} is no model")
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        raise SystemExit("it would ask a hub")
    if flags.enable_sleep_mode and not os.environ["CUDA_VISIBLE_DEVICES"]:
        raise SystemExit("Sleep mode is not supported on current platform.")
    adapters = {module["name"]: module["path"] for module in flags.lora_modules}
    if adapters and not flags.enable_lora:
        raise SystemExit("--lora-modules needs --enable-lora")
    for path in adapters.values():
        if json.loads((Path(path) / "adapter_config.json").read_text())["r"] > flags.max_lora_rank:
            raise SystemExit("the rank is greater than max_lora_rank")
    state = _State(flags, adapters)

    class Bound(_Vllm):
        engine = state

    server = ThreadingHTTPServer((flags.host, flags.port), Bound, bind_and_activate=False)
    server.allow_reuse_address = server.allow_reuse_port = True
    server.server_bind()
    server.server_activate()
    server.serve_forever()
    return 0


class _State:
    def __init__(self, flags: argparse.Namespace, adapters: dict[str, str]) -> None:
        self.flags, self.adapters, self.counts = flags, adapters, Counts()
        self.key = os.environ.get("VLLM_API_KEY")
        self.asleep = False
        #: Import paths of ASGI middlewares; here they only say who is let in.
        self.doors = [
            getattr(importlib.import_module(path.rpartition(".")[0]), path.rpartition(".")[2])
            for path in flags.middleware
        ]

    def lets_in(self, path: str, headers: Mapping[str, str]) -> bool:
        """What the middlewares do with such a request."""
        passed = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            passed.append(scope)

        async def send(message: Any) -> None:
            pass

        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        for door in self.doors:
            asyncio.run(door(app)({"type": "http", "path": path, "headers": raw}, None, send))
        return len(passed) == len(self.doors)


def _error(status: int, message: str, kind: str) -> Refused:
    return Refused(status, {"error": {"message": message, "type": kind, "param": None, "code": status}})


class _Vllm(Handler):
    engine: _State

    def do_GET(self) -> None:
        if not self._enters():
            return
        if self.path == "/health":
            self.send(200, b"")
        elif self.path == "/metrics":
            self.send(200, self._metrics().encode(), "text/plain")
        elif self.path == "/is_sleeping" and self._dev():
            self.send(200, {"is_sleeping": self.engine.asleep})
        elif self.path == "/v1/models" and self._with_key():
            names = [self.engine.flags.served_model_name, *self.engine.adapters]
            self.send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        else:
            self.send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = self.body()
        if not self._enters():
            return
        try:
            self._post(self.path.partition("?")[0], body)
        except Refused as refusal:
            self.send(refusal.status, refusal.document)

    def _post(self, path: str, body: Any) -> None:
        if path == "/invocations":
            self._generate(COMPLETIONS, body)
        elif path in ("/sleep", "/wake_up") and self._dev():
            self.engine.asleep = path == "/sleep"
            self.send(200, b"")
        elif not path.startswith("/v1/"):
            raise Refused(404, {"detail": "Not Found"})
        elif not self._with_key():
            return
        elif path in (CHAT, COMPLETIONS):
            self._generate(path, body)
        elif path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter") and self._updates():
            self._change(path, body)
        else:
            raise Refused(404, {"detail": "Not Found"})

    def _generate(self, path: str, body: dict[str, Any]) -> None:
        if body["model"] not in (self.engine.flags.served_model_name, *self.engine.adapters):
            raise _error(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if len(prompt_of(path, body)) >= CONTEXT:
            message = f"This model's maximum context length is {CONTEXT} tokens. However, your prompt is longer."
            raise _error(400, message, "BadRequestError")
        self.answer(path, body, body["model"], self.engine.counts)

    def _change(self, path: str, body: dict[str, Any]) -> None:
        name, adapters = body["lora_name"], self.engine.adapters
        if path.endswith("unload_lora_adapter"):
            if name not in adapters:
                raise _error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
            del adapters[name]
            self.send(200, f"Success: LoRA adapter '{name}' removed successfully.".encode(), "text/plain")
            return
        config = Path(body["lora_path"]) / "adapter_config.json"
        if not config.is_file():
            raise _error(404, "No adapter found.", "NotFoundError")
        if name in adapters:
            raise _error(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        if json.loads(config.read_text())["target_modules"] == ["no such"]:
            raise _error(500, "Call to add_lora method failed: no such module", "InternalServerError")
        adapters[name] = body["lora_path"]
        self.send(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), "text/plain")

    def _updates(self) -> bool:
        return os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1" and self.engine.flags.enable_lora is True

    def _enters(self) -> bool:
        if not self.engine.lets_in(self.path.partition("?")[0], dict(self.headers)):
            self.send(401, {"error": "Unauthorized"})
            return False
        return True

    def _dev(self) -> bool:
        return os.environ.get("VLLM_SERVER_DEV_MODE") == "1"

    def _with_key(self) -> bool:
        if self.engine.key and self.headers["Authorization"] != f"Bearer {self.engine.key}":
            self.send(401, {"error": "Unauthorized"})
            return False
        return True

    def _metrics(self) -> str:
        counts = self.engine.counts
        label = f'{{engine="0",model_name="{self.engine.flags.served_model_name}"}}'
        return (
            f"vllm:prompt_tokens_total{label} {counts.prompt}.0\n"
            f"vllm:generation_tokens_total{label} {counts.generated}.0\n"
            f"vllm:num_requests_running{label} 0.0\nvllm:num_requests_waiting{label} 0.0\n"
            f"vllm:kv_cache_usage_perc{label} 0.25\n"
        )

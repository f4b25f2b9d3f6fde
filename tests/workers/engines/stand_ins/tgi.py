"""TGI 3.3: a launcher that starts a shard and a router in groups of their own; flags and routes of its documents."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.workers.engines.stand_ins.story import CHAT, COMPLETIONS, CONTEXT, Counts, Handler, Refused, prompt_of

_ADAPTER = re.compile(r"^([^=@]+)(?:=([^@]+))?(?:@(.+))?$")


def _launcher_flags(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="text-generation-launcher", allow_abbrev=False)
    parser.add_argument("--model-id", required=True, type=Path)
    parser.add_argument("--hostname", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--prometheus-port", required=True, type=int)
    parser.add_argument("--master-port", required=True, type=int)
    parser.add_argument("--shard-uds-path", required=True)
    parser.add_argument("--usage-stats", choices=["off"], required=True)
    parser.add_argument("--graceful-termination-timeout", required=True, type=int)
    for name in ("input-tokens", "total-tokens", "batch-prefill-tokens", "batch-total-tokens"):
        parser.add_argument(f"--max-{name}", type=int)
    parser.add_argument("--cuda-memory-fraction", type=float)
    parser.add_argument("--api-key", default=os.environ.get("API_KEY"))
    parser.add_argument("--lora-adapters", default=os.environ.get("LORA_ADAPTERS"))
    return parser.parse_args(words)


def launcher(words: list[str]) -> int:
    flags = _launcher_flags(words)
    # As the real one does: its settings go into its log, and the key to the router's command line.
    sys.stderr.write(f"{flags}\n")
    _check_lengths(flags)
    _check_model(flags.model_id)
    shard_process = subprocess.Popen(["text-generation-server", "serve"], process_group=0)
    asked = ["--port", str(flags.port), "--hostname", flags.hostname, "--tokenizer-name", str(flags.model_id)]
    asked += ["--api-key", flags.api_key] if flags.api_key else []
    asked += ["--adapters", flags.lora_adapters] if flags.lora_adapters else []
    router_process = subprocess.Popen(["text-generation-router", *asked], process_group=0)

    def stop(*_: Any) -> None:
        for process in (router_process, shard_process):
            process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    code = router_process.wait()
    stop()
    shard_process.wait()
    return max(0, code)


def _check_lengths(flags: argparse.Namespace) -> None:
    """What the launcher refuses to start with."""
    inputs, total, prefill, batch = (
        flags.max_input_tokens,
        flags.max_total_tokens,
        flags.max_batch_prefill_tokens,
        flags.max_batch_total_tokens,
    )
    if inputs is not None and total is not None and inputs >= total:
        raise SystemExit("`max_input_tokens` must be < `max_total_tokens`")
    if inputs is not None and prefill is not None and prefill < inputs:
        raise SystemExit("`max_batch_prefill_tokens` must be >= `max_input_tokens`")
    if batch is not None and max(prefill or 0, total or 0) > batch:
        raise SystemExit("`max_batch_total_tokens` must be >= `max_batch_prefill_tokens` and `max_total_tokens`")


def _check_model(folder: Path) -> None:
    """What transformers 4.51 would read wrongly without a word, or not at all."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    if "rope_parameters" in config or "dtype" in config or "torch_dtype" not in config:
        raise SystemExit("config.json is one of transformers 5")
    if isinstance(tokenizer.get("extra_special_tokens"), list) or tokenizer["tokenizer_class"] == "TokenizersBackend":
        raise SystemExit("tokenizer_config.json is one of transformers 5")


def shard(words: list[str]) -> int:
    while True:
        time.sleep(60)


def router(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="text-generation-router", allow_abbrev=False)
    parser.add_argument("--port", type=int)
    parser.add_argument("--hostname")
    parser.add_argument("--tokenizer-name", type=Path)
    parser.add_argument("--api-key", default=os.environ.get("API_KEY"))
    parser.add_argument("--adapters", default="")
    flags = parser.parse_args(words)
    matches = [_ADAPTER.match(word) for word in flags.adapters.split(",") if word]
    names = {match[1]: match[2] for match in matches if match}
    for path in names.values():
        config = json.loads((Path(path) / "adapter_config.json").read_text())
        if "r" not in config or config["base_model_name_or_path"] != str(flags.tokenizer_name):
            raise SystemExit("the adapter is none of this model")

    class Bound(_Router):
        key, counts, adapters = flags.api_key, Counts(), frozenset(names)

    # SO_REUSEADDR alone, as tokio's listeners have it.
    ThreadingHTTPServer((flags.hostname, flags.port), Bound).serve_forever()
    return 0


class _Router(Handler):
    key: str | None
    counts: Counts
    adapters: frozenset[str]

    def do_GET(self) -> None:
        if self.path in ("/health", "/"):
            self.send(200, b"")
        elif self.path == "/metrics":
            lines = f"tgi_request_input_length_sum {self.counts.prompt}\ntgi_queue_size 0\ntgi_batch_current_size 0\n"
            self.send(200, f"{lines}tgi_request_generated_tokens_sum {self.counts.generated}\n".encode(), "text/plain")
        elif self.path == "/info":
            self.send(200, {"model_id": "tgi", "max_total_tokens": CONTEXT})
        else:
            self.send(404, b"")

    def do_POST(self) -> None:
        body = self.body()
        if self.key and (self.headers["Authorization"] or "").lower() != f"bearer {self.key}".lower():
            self.send(401, b"")
            return
        try:
            self._post(body)
        except Refused as refusal:
            self.send(refusal.status, refusal.document)

    def _post(self, body: dict[str, Any]) -> None:
        if self.path in (CHAT, COMPLETIONS):
            # Any other model is an adapter, and an unknown one silently the base.
            if len(prompt_of(self.path, body)) >= CONTEXT:
                message = f"Input validation error: `inputs` must have less than {CONTEXT} tokens. Given: more"
                raise Refused(422, {"error": message, "error_type": "validation"})
            self.answer(self.path, body, self._who(body["model"]), self.counts)
        elif self.path == "/generate":
            who = self._who((body.get("parameters") or {}).get("adapter_id"))
            self.send(200, {"generated_text": f"{who}: a story"})
        else:
            raise Refused(404, {"error": "no such route", "error_type": "not_found"})

    def _who(self, adapter: str | None) -> str:
        return adapter if adapter in self.adapters else "tgi"

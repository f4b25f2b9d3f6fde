"""A GGUF in the real llama.cpp: the process that a deployment would start, asked over its own routes."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from jobspecs.lifecycle import Reason
from jobspecs.tasks import TEXT_GENERATION
from workers.engines.child import PASSED_VARIABLES
from workers.engines.interface import EngineOrder
from workers.engines.llamacpp.adapter import LlamaCpp
from workers.parity.sides import NEXT_TOKENS, SPEED_PROMPT, SPEED_TOKENS
from workers.run.context import RunFailed

#: A line per request in the job's log is none that anybody reads.
logging.getLogger("httpx").setLevel(logging.WARNING)

#: Tokens of a text with its answer; the gate's own texts are shorter.
_CONTEXT_TOKENS = 1024
#: Seconds that it may take to load, and to answer one request.
_START_S, _ANSWER_S = 600.0, 120.0
#: What it puts before each line of its log, and lines that are passed on, the first of which says why.
_STAMP, _SAID_LINES = re.compile(r"^[\d.]+ [A-Z] "), 3
#: Outweighs whatever the model thinks of a token.
_FORCED = 1000.0


class LlamaCppSide:
    """Implements `Side`. `between` is called while it waits, and may raise to stop."""

    def __init__(self, folder: Path, threads: int, log: Path, between: Callable[[], None]) -> None:
        key = secrets.token_urlsafe(24)
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = int(held.getsockname()[1])
        order = EngineOrder(
            model="candidate",
            task=TEXT_GENERATION.name,
            model_dir=folder,
            digest="",
            port=port,
            key=key,
            threads=threads,
            context_tokens=_CONTEXT_TOKENS,
            sequences=1,
        )
        launch = LlamaCpp().launch(order, folder)
        self._log, self._folder = log, folder
        passed = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                launch.argv,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                env={**passed, **launch.environment},
            )
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=_ANSWER_S, trust_env=False
        )
        try:
            self._wait(between)
            self._letter = self.encode("a")[-1]
        except BaseException:
            self.close()
            raise

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int] | None:
        answer = self._http.post("/apply-template", json={"messages": list(messages)})
        return self.encode(answer.json()["prompt"]) if answer.is_success else None

    def encode(self, text: str) -> list[int]:
        found = self._ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(token) for token in found["tokens"]]

    def next_tokens(self, ids: Sequence[int]) -> list[dict[int, float]]:
        return [self._after(list(ids[: place + 1])) for place in range(len(ids))]

    def ends_at(self, token: int) -> bool:
        asked = {"prompt": self.encode("Hello"), "n_predict": 2, "logit_bias": [[token, _FORCED]], "temperature": 0}
        return bool(self._ask("/completion", asked)["stop_type"] == "eos")

    def tokens_per_s(self) -> float:
        asked = {"prompt": SPEED_PROMPT, "n_predict": SPEED_TOKENS, "ignore_eos": True, "temperature": 0}
        return float(self._ask("/completion", asked)["timings"]["predicted_per_second"])

    def close(self) -> None:
        """Ends the process."""
        self._http.close()
        self._process.kill()
        self._process.wait()

    def _after(self, ids: list[int]) -> dict[int, float]:
        asked = {"prompt": ids, "n_predict": 1, "n_probs": NEXT_TOKENS, "temperature": 0, "cache_prompt": True}
        # What ends an answer, or is no whole letter, comes without probabilities; they are those before any rule.
        told = self._ask("/completion", {**asked, "logit_bias": [[self._letter, _FORCED]]})["completion_probabilities"][
            0
        ]["top_logprobs"]
        return {int(one["id"]): float(one["logprob"]) for one in told}

    def _ask(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.post(route, json=body)
        except httpx.HTTPError as error:
            raise RunFailed(
                Reason.invalid_model, f"llama.cpp does not answer {route}: {error}. {self._tail()}"
            ) from error
        if not answer.is_success:
            raise RunFailed(Reason.invalid_model, f"llama.cpp refuses {route}: {answer.text[:300]}")
        found: dict[str, Any] = answer.json()
        return found

    def _wait(self, between: Callable[[], None]) -> None:
        given_up_at = time.monotonic() + _START_S
        while time.monotonic() < given_up_at:
            between()
            if self._process.poll() is not None:
                raise RunFailed(Reason.invalid_model, f"llama.cpp can't load it. {self._tail()}")
            try:
                if self._http.get("/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RunFailed(Reason.invalid_model, f"llama.cpp did not load it within {_START_S:.0f} s. {self._tail()}")

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if " E " in line or "error" in line.lower()]
        # Neither times nor places of this attempt: the same model gets the same card.
        said = [_STAMP.sub("", line).replace(f"{self._folder}/", "") for line in (errors or lines)[:_SAID_LINES]]
        return " ".join(said)[:500]

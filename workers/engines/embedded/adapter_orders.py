"""Orders to an engine that serves already: to load an adapter beside its model, or to let go of one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from workers.engines.embedded.generation.voices import Voice
from workers.engines.embedded.tasks.language_model import ServedLanguageModel
from workers.engines.embedded.tasks.served import ServedModel
from workers.run.failures import reason_of

log = logging.getLogger(__name__)


class AdapterOrders:
    """Carries them out one after another, beside the loop that answers requests."""

    def __init__(self, served: ServedModel, say: Callable[..., None], drain_s: float) -> None:
        """`say`: a status line to the worker; `drain_s`: seconds that answers in hand get."""
        self._served, self._say, self._drain_s = served, say, drain_s
        self._one_by_one = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()

    def take(self, line: bytes) -> None:
        """A JSON line: {"number", and either "load" or "unload": a ServedAdapter}. It is answered by its number."""
        task = asyncio.create_task(self._answered(json.loads(line)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answered(self, order: dict[str, Any]) -> None:
        async with self._one_by_one:
            status, text = HTTPStatus.OK, ""
            try:
                await self._carry_out(order)
            except Exception as error:
                log.exception("the adapters can't be changed")
                status, text = HTTPStatus.UNPROCESSABLE_ENTITY, reason_of(error)[1]
            self._say(state="answered", number=order["number"], status=int(status), text=text)

    async def _carry_out(self, order: dict[str, Any]) -> None:
        """Raises RunFailed for an adapter that does not fit."""
        if not isinstance(self._served, ServedLanguageModel):
            raise TypeError("only language models have adapters beside them")
        voices = self._served.voices
        if (adapter := order.get("load")) is not None:
            await asyncio.to_thread(voices.load, adapter["name"], Path(adapter["folder"]), adapter["digest"])
        elif (voice := voices.unload(order["unload"]["name"])) is not None:
            asyncio.get_running_loop().call_later(self._drain_s, self._close, voice)

    def _close(self, voice: Voice) -> None:
        """It waits for what is in hand: beside the loop."""
        asyncio.get_running_loop().run_in_executor(None, voice.close)

"""Texts and conversations become prompts, on threads beside the one that generates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from workers.engines.embedded.batching import as_exception
from workers.engines.embedded.generation.language_model import LanguageModel

Given = TypeVar("Given")
Made = TypeVar("Made")


class Prompts:
    """Makes the prompts of one model."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        # Long prompts take a while, and a tokenizer likes to be used by one thread at a time.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._rendering = ThreadPoolExecutor(1, thread_name_prefix="templates")
        #: A tokenizer's patterns come with the model: they may take very long.
        self._busy_since_s: float | None = None

    async def encode(self, text: str) -> list[int]:
        """The tokens of a plain prompt."""
        return await self._prepared(self._model.encode, text)

    async def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """The tokens of a conversation. Raises NoChatTemplate and ChatTemplateFailed."""
        # Not where prompts are tokenized: a template that needs its whole second holds up conversations only.
        text = await asyncio.get_running_loop().run_in_executor(
            self._rendering, self._model.render_chat, messages, tools
        )
        return await self._prepared(self._model.encode_rendered, text)

    async def encode_spans(self, text: str) -> list[tuple[int, int, int]]:
        """The tokens of a plain prompt with the characters that they stand for: (token, first, behind the last)."""
        return await self._prepared(self._model.encode_spans, text)

    def stuck_s(self) -> float:
        """For how long the present prompt has been tokenized, in seconds."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def close(self) -> None:
        """Waits for what is in hand."""
        self._tokenizing.shutdown()
        self._rendering.shutdown()

    async def _prepared(self, work: Callable[[Given], Made], given: Given) -> Made:
        def run() -> Made:
            self._busy_since_s = time.monotonic()
            try:
                return work(given)
            except BaseException as error:
                raise as_exception(error) from None
            finally:
                self._busy_since_s = None

        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, run)

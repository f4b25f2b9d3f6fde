"""Adapters come and go while a language model answers: vLLM's /v1/load_lora_adapter and /v1/unload_lora_adapter.

They are for whoever runs the engine: the API passes no request of its users on to them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.engines.embedded.dialects.refusals import NOT_FOUND
from workers.engines.embedded.dialects.requests import Refused, invalid, read
from workers.engines.embedded.generation.voices import AdapterRefused, Voices
from workers.run.context import RunFailed

Name = Annotated[str, Field(min_length=1, max_length=300)]


class Loading(BaseModel):
    """`lora_path`: a folder on this machine. `digest`: of the manifest in it, which its files are checked against."""

    model_config = ConfigDict(extra="forbid")

    lora_name: Name
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]
    digest: str | None = None


class Unloading(BaseModel):
    model_config = ConfigDict(extra="forbid")

    lora_name: Name


class AdapterRoutes:
    """The two routes."""

    def __init__(self, voices: Voices) -> None:
        self._voices = voices

    def routes(self) -> list[Route]:
        return [
            Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
        ]

    async def _load(self, request: Request) -> Response:
        body = await read(Loading, request)
        try:
            await asyncio.to_thread(self._voices.load, body.lora_name, Path(body.lora_path), body.digest)
        except AdapterRefused as error:
            raise invalid("lora_name", str(error)) from error
        except RunFailed as error:
            raise invalid("lora_path", error.message) from error
        except OSError as error:
            raise invalid("lora_path", f"it can't be read: {error.strerror}.") from error
        return Response(f"Success: LoRA adapter '{body.lora_name}' added successfully.", media_type="text/plain")

    async def _unload(self, request: Request) -> Response:
        body = await read(Unloading, request)
        if not await asyncio.to_thread(self._voices.unload, body.lora_name):
            raise Refused(404, NOT_FOUND, f"there is no adapter {body.lora_name!r} here.", "lora_name")
        return Response(f"Success: LoRA adapter '{body.lora_name}' removed successfully.", media_type="text/plain")

"""Language models: OpenAI's chat and completions, and text-generation-inference's routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.routing import Route

from jobspecs.lifecycle import Reason
from scheduling.estimates.serving import (
    ANSWERS_MAX,
    CACHED_TOKENS_MAX,
    adapter_bytes,
    cache_bytes_per_token,
    cached_tokens,
)
from scheduling.estimates.shapes import shape_of
from workers.engines.embedded.dialects.openai import OpenAIRoutes
from workers.engines.embedded.dialects.tgi import TgiRoutes
from workers.engines.embedded.generation.generator import NEW_TOKENS_MAX, WAITING_MAX, Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.requests import CHOICES_MAX, STOPS_MAX
from workers.engines.embedded.generation.voices import Voices
from workers.engines.interface import EngineOrder, Tokens
from workers.run.context import RunFailed

#: Tokens of a conversation that is worth having.
_TOKENS_MIN = 256


class ServedLanguageModel:
    """A language model with its adapters, and its routes."""

    def __init__(self, name: str, generator: Generator, digest: str) -> None:
        """`digest`: of the model's manifest, by which answers say what gave them."""
        self._generator, self.voices = generator, Voices(name, digest, generator)

    @classmethod
    def load(cls, order: EngineOrder) -> ServedLanguageModel:
        """Raises RunFailed: invalid_model for no complete language model, unsatisfiable with too little memory."""
        model = LanguageModel.load(order.model_dir, order.threads, order.base_dir)
        if order.context_tokens is not None:
            model = replace(model, context_tokens=min(model.context_tokens, order.context_tokens))
        answers = min(order.sequences or ANSWERS_MAX, ANSWERS_MAX)
        served = cls(order.model, Generator(model, answers, tokens_max=_tokens_max(model, order)), order.digest)
        for adapter in order.adapters:
            served.voices.load(adapter.name, adapter.folder, adapter.digest)
        return served

    def routes(self) -> list[Route]:
        parts = OpenAIRoutes(self.voices), TgiRoutes(self.voices)
        return [route for part in parts for route in part.routes()]

    def info(self) -> dict[str, Any]:
        """In the fields of text-generation-inference."""
        model = self._generator.model
        return {
            "model_dtype": str(model.model.dtype).removeprefix("torch."),
            "model_device_type": model.device.type,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": WAITING_MAX,
            "max_best_of": CHOICES_MAX,
            "max_stop_sequences": STOPS_MAX,
            "max_input_tokens": model.context_tokens - 1,
            "max_total_tokens": model.context_tokens,
            "max_new_tokens": min(model.context_tokens, NEW_TOKENS_MAX),
        }

    def stuck_s(self) -> float:
        return self.voices.stuck_s()

    def tokens(self) -> Tokens:
        return self._generator.tokens

    def close(self) -> None:
        self.voices.close()


def _tokens_max(model: LanguageModel, order: EngineOrder) -> int:
    """Tokens whose keys and values fit into the memory that the deployment was given. On a GPU they are not there."""
    shape = shape_of(model.model.config.to_dict())
    if order.memory_bytes is None or shape is None or model.device.type != "cpu":
        return CACHED_TOKENS_MAX
    adapters_bytes = sum(adapter_bytes(adapter.bytes_total) for adapter in order.adapters)
    tokens = cached_tokens(shape, order.memory_bytes - adapters_bytes)
    if tokens < _TOKENS_MIN:
        needed = order.memory_bytes + (_TOKENS_MIN - tokens) * cache_bytes_per_token(shape)
        raise RunFailed(
            Reason.unsatisfiable,
            f"Each replica of this deployment has {order.memory_bytes / 2**30:.2f} GiB of memory, and this model needs "
            f"{needed / 2**30:.2f} GiB to answer at all. Deploy it with a larger memory_gib, or without one.",
        )
    return tokens

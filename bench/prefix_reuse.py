"""The time to the first token behind a system prompt of 1,000 tokens that was read before, against the first time.

Each round has a system prompt of its own. It is asked one question (cold), then others, of which each has to be read,
and the first again. Ratio: seconds to the first token of the cold answer to those of a warm one with another question.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
from pathlib import Path

from bench.measuring import report
from bench.served_llm import NAME, answer_all, language_model_folder, loaded, threads
from workers.engines.embedded.generation.batched import PIECE_TOKENS
from workers.engines.embedded.generation.generator import Generator

SYSTEM_TOKENS, ROUNDS = 1000, 3
FLOOR = 10.0
QUESTIONS = ("Who wrote this?", "What is it about?", "Is it long?", "Why?")

_log = logging.getLogger("bench.prefix_reuse")


def conversation(generator: Generator, number: int, question: str) -> list[int]:
    """The tokens of a question behind the system prompt of that number."""
    model = generator.model
    text = f"You are helper {number}. " + "Answer in one short sentence and stay polite. " * (SYSTEM_TOKENS // 9)
    system = model.decode(model.encode(text)[: SYSTEM_TOKENS - 4])
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return model.encode_rendered(model.render_chat(messages))


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        generator = Generator(loaded(language_model_folder(Path(scratch))))
    cold, warm, same, tokens = [], [], [], 0
    for number in range(ROUNDS):
        prompts = [conversation(generator, number, question) for question in QUESTIONS]
        tokens = len(prompts[0])
        first, *others = [answer_all(generator, [prompt], 1).first_s for prompt in prompts]
        again = answer_all(generator, prompts[:1], 1).first_s
        _log.info("cold %.2f s; another question %.3f s; the same %.3f s", first, statistics.median(others), again)
        cold.append(first)
        warm.append(statistics.median(others))
        same.append(again)
    generator.close()
    ratio = statistics.median(one / other for one, other in zip(cold, warm, strict=True))
    report(
        "prefix_reuse",
        ratio,
        1 / statistics.median(warm),
        1 / statistics.median(cold),
        "first tokens/s",
        {
            "floor": FLOOR,
            "seconds_cold": round(statistics.median(cold), 3),
            "seconds_warm": round(statistics.median(warm), 3),
            "seconds_same_question": round(statistics.median(same), 3),
            "prompt_tokens": tokens,
            "piece_tokens": PIECE_TOKENS,
            "rounds": ROUNDS,
            "threads": threads(),
            "model": NAME,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

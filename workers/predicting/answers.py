"""Answers of a language model to many questions, several at a time, by the generator that serves them.

What an answer says depends on nothing but its own prompt and seed, so neither windows nor interruptions change it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus.asking import Asked
from jobspecs.kinds.answering import Answering
from jobspecs.lifecycle import Reason
from scheduling.estimates.serving import answering_tokens
from workers.engines.embedded.generation.answers import Finish, whole
from workers.engines.embedded.generation.forms import Form, FormRefused, Forms, Grammar
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import ChatTemplateFailed, LanguageModel
from workers.engines.embedded.generation.sampling import Sampling
from workers.local_models.base_model import invalid_model
from workers.run.context import RunFailed

#: Why a row has no answer: its prompt has more tokens than are read.
TOO_LONG = "prompt_too_long"
#: Seconds between two calls of `after_each`; and requests that may wait: a window of them is handed over at once.
_LOOK_S, _WAITING_MAX = 0.5, 1 << 16


@dataclass(frozen=True)
class Answered:
    """`finish_reason`: `stop`, `length`, or TOO_LONG, of which there is no text. `tokens`: of the answer."""

    text: str | None
    finish_reason: str
    tokens: int


class Answerer:
    """A loaded language model, or an adapter merged into its base. Close it."""

    def __init__(self, model: LanguageModel, answering: Answering, max_length: int) -> None:
        new_tokens = min(answering.max_new_tokens, model.context_tokens // 2)
        self._model, self._answering, self._new_tokens = model, answering, new_tokens
        self._prompt_max = min(max_length, model.context_tokens - new_tokens)
        tokens_max = answering_tokens(self._prompt_max + new_tokens)
        self._forms = Forms(model)
        self._generator = Generator(model, waiting_max=_WAITING_MAX, tokens_max=tokens_max)

    @classmethod
    def load(cls, folder: Path, base: Path | None, answering: Answering, max_length: int, threads: int) -> Answerer:
        """Raises RunFailed(invalid_model)."""
        return cls(LanguageModel.load(folder, threads, base), answering, max_length)

    def answer(
        self, questions: Sequence[Asked], seeds: Sequence[int], after_each: Callable[[int], None] = lambda done: None
    ) -> list[Answered]:
        """One answer per question. `after_each` is told now and then how many are done and may raise to stop.

        Raises RunFailed when the model's template does not take a question, or no answer can be of the form.
        """
        return asyncio.run(self._answer(questions, seeds, after_each))

    def close(self) -> None:
        self._forms.close()
        self._generator.close()

    async def _answer(
        self, questions: Sequence[Asked], seeds: Sequence[int], after_each: Callable[[int], None]
    ) -> list[Answered]:
        grammar = await self._grammar()
        tasks = [
            asyncio.ensure_future(self._one(question, seed, grammar))
            for question, seed in zip(questions, seeds, strict=True)
        ]
        growing = set(tasks)
        try:
            while growing:
                ended, growing = await asyncio.wait(growing, timeout=_LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
                for task in ended:
                    task.result()
                after_each(len(tasks) - len(growing))
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, question: Asked, seed: int, grammar: Grammar | None) -> Answered:
        prompt = await self._encoded(question)
        if len(prompt) > self._prompt_max:
            return Answered(None, TOO_LONG, 0)
        answering = self._answering
        sampling = Sampling(
            max_tokens=self._new_tokens,
            temperature=answering.temperature,
            top_p=answering.top_p,
            seed=seed,
            stop=tuple(answering.stop),
            grammar=grammar,
        )
        written = await whole(self._generator.start(prompt, sampling))
        reason = "length" if written.end.reason is Finish.length else "stop"
        return Answered(written.text, reason, written.end.new_tokens)

    async def _encoded(self, question: Asked) -> list[int]:
        """As a conversation where the model knows such; else its texts are continued."""
        if self._model.template is None:
            return await self._generator.prompts.encode(question.text)
        try:
            return await self._generator.prompts.encode_chat(question.turns)
        except ChatTemplateFailed as error:
            raise RunFailed(Reason.invalid_dataset, str(error)) from error

    async def _grammar(self) -> Grammar | None:
        if self._answering.json_schema is None:
            return None
        try:
            form = Form.of_schema("generation.json_schema", self._answering.json_schema)
            return await self._forms.prepared(form)
        except FormRefused as error:
            raise invalid_model(str(error)) from error

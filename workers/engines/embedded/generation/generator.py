"""Text generation: several answers grow at once on one inference thread, as the rows of one step.

What an answer says does not depend on what else is being generated (`batched`): the same prompt and seed give the same
text on a busy engine and on an idle one, and whether or not the prompt's beginning was read before. A long prompt is
read in pieces between the steps of the others, so it holds nobody up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from scheduling.estimates.serving import ANSWERS_MAX, CACHED_TOKENS_MAX, PROMPT_TOKENS_PER_STEP
from workers.engines.embedded.batching import Overloaded, as_exception
from workers.engines.embedded.generation.answers import Answer
from workers.engines.embedded.generation.forward import Forward
from workers.engines.embedded.generation.growing import Growing
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.lora import Lora
from workers.engines.embedded.generation.prefixes import Prefixes
from workers.engines.embedded.generation.preparing import Prompts
from workers.engines.embedded.generation.sampling import Sampler, Sampling
from workers.engines.embedded.generation.text_stream import TextStream
from workers.engines.embedded.generation.trial import forward_of
from workers.engines.interface import Tokens

log = logging.getLogger(__name__)

#: Requests that may wait; beyond it they are refused.
WAITING_MAX = 128
#: Tokens of one answer, whatever the request asks for.
NEW_TOKENS_MAX = 8192


class PromptEmpty(Exception):
    """There is nothing to go on from; the text says what to do."""


class PromptTooLong(Exception):
    """The prompt leaves no room for an answer in the model's context."""


class Generator:
    """Generates with one model on a thread of its own."""

    def __init__(
        self,
        model: LanguageModel,
        active_max: int = ANSWERS_MAX,
        waiting_max: int = WAITING_MAX,
        tokens_max: int = CACHED_TOKENS_MAX,
        forward: Forward | None = None,
    ) -> None:
        """`tokens_max`: of all growing answers together, prompts included: it bounds keys and values.

        `forward`: how the model is run; None: as `forward_of` finds out.
        """
        self.model = replace(model, context_tokens=min(model.context_tokens, tokens_max))
        self._active_max, self._waiting_max, self._tokens_max = active_max, waiting_max, tokens_max
        self._forward = forward or forward_of(self.model)
        #: They take the memory that growing answers have not come to yet.
        self._prefixes = Prefixes()
        #: Of all answers so far, cancelled ones included. A prompt counts for each answer that has read it.
        self.tokens = Tokens()
        self._waiting: deque[Growing] = deque()
        self._active: list[Growing] = []
        self._closed = False
        #: Made beside the thread that generates.
        self.prompts = Prompts(self.model)
        self._busy_since_s: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def room(self, prompt: Sequence[int]) -> int:
        """How many tokens an answer to this prompt may have. Raises PromptEmpty, and PromptTooLong where none fits."""
        context = self.model.context_tokens
        if not prompt:
            raise PromptEmpty("The prompt is empty. Send some text.")
        if len(prompt) >= context:
            raise PromptTooLong(
                f"The prompt has {len(prompt)} tokens; the model's context holds {context}, the answer included. "
                "Send a shorter one."
            )
        return min(context - len(prompt), NEW_TOKENS_MAX)

    def adapter(self, folder: Path, digest: bytes) -> Lora:
        """Loads one for `start`; blocks. Raises what `Lora.load` does."""
        lora = Lora.load(folder, self.model.model, digest, self.model.example)
        self._forward.layers.prepare()
        return lora

    def start(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        model: LanguageModel | None = None,
        adapter: Lora | None = None,
    ) -> Answer:
        """Queues an answer, on the event loop that reads its steps. Raises Overloaded and what `room` does.

        `adapter`: what is added to the model for this answer; `model`: with the tokenizer that it was trained with.
        """
        if not 1 <= sampling.max_tokens <= self.room(prompt):
            raise ValueError("max_tokens must be at least 1 and fit into the context")
        model = model or self.model
        text = TextStream(model.decode, [] if sampling.echo else prompt, sampling.stop)
        task = Growing(Answer(), prompt, sampling, Sampler(sampling, prompt), text, model.end_tokens, adapter)
        with self._changed:
            if len(self._waiting) >= self._waiting_max:
                # Those whose clients have left take nobody's place.
                self._waiting = deque(task for task in self._waiting if not task.answer.cancelled)
            if len(self._waiting) >= self._waiting_max:
                raise Overloaded(f"{len(self._waiting)} requests are waiting already. Try again in a moment.")
            self._waiting.append(task)
            self._changed.notify()
        return task.answer

    def stuck_s(self) -> float:
        """For how long the present step, or a tokenizer, has been running, in seconds; infinite without the thread."""
        if not self._thread.is_alive():
            return float("inf")
        since_s = self._busy_since_s
        return max(self.prompts.stuck_s(), 0.0 if since_s is None else time.monotonic() - since_s)

    def close(self) -> None:
        """Ends the thread after the present step; answers that are not finished never end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self.prompts.close()
        self.model.close()

    def _run(self) -> None:
        while self._admit():
            self._active = [task for task in self._active if not task.answer.cancelled]
            # Whoever has read the prompt by now writes in this round: who comes to read meanwhile, in the next one.
            writing = [task for task in self._active if task.written]
            self._read_some([task for task in self._active if not task.written])
            for first in range(0, len(writing), self._forward.rows):
                self._write(writing[first : first + self._forward.rows])
            self._prefixes.shrink(self._tokens_max - sum(task.tokens_cached for task in self._active))

    def _admit(self) -> bool:
        """Lets in what fits, first come first served; waits while there is nothing to do. False once closed."""
        with self._changed:
            while not self._closed:
                tokens = sum(task.tokens_at_most for task in self._active)
                while self._waiting and len(self._active) < self._active_max:
                    tokens += self._waiting[0].tokens_at_most
                    # One answer alone always fits: so short is the context.
                    if self._active and tokens > self._tokens_max:
                        break
                    self._active.append(self._waiting.popleft())
                if self._active:
                    return True
                self._changed.wait()
        return False

    def _read_some(self, tasks: Sequence[Growing]) -> None:
        """Pieces of prompts, one of each in turn, between two steps of those that write."""
        unread, tokens = deque(tasks), 0
        while unread and tokens < PROMPT_TOKENS_PER_STEP:
            task = unread.popleft()
            with self._failing(task):
                tokens += self._read_piece(task)
                if task in self._active and not task.written:
                    unread.append(task)

    def _read_piece(self, task: Growing) -> int:
        """Reads the next piece of the prompt, behind those that were read before; the tokens of which it consists."""
        scored = task.sampling.scores_echo
        size = self._forward.piece(scored=scored)
        keeps = self._forward.keeps_prefixes and not scored
        if task.cache is None:
            task.cache = self._forward.begin(task.tokens_at_most, task.adapter)
        if keeps:
            self._take_known(task, size)
        tokens = task.prompt[task.read : task.read + size]
        last = task.read + len(tokens) == len(task.prompt)
        with self._busy():
            logits = self._forward.read(task.cache, tokens, scored=scored, last=last)
        if task.sampling.echo:
            task.answer.put(task.echoed(tokens, logits))
        if keeps and not last:
            task.digests.append(task.next_digest(size))
            self._prefixes.add(task.digests[-1], task.cache.copy_of(task.read, task.read + size))
        self._has_read(task, len(tokens))
        if last:
            self._prefixes.used(task.digests)
            self._choose(task, logits[-1])
        return len(tokens)

    def _take_known(self, task: Growing, size: int) -> None:
        """Pieces that were read for other prompts; at least one token is left, for its logits."""
        while task.read + size < len(task.prompt):
            digest = task.next_digest(size)
            known = self._prefixes.get(digest)
            if known is None:
                return
            task.digests.append(digest)
            task.cache.append(known)
            if task.sampling.echo:
                task.answer.put(task.echoed(task.prompt[task.read : task.read + size], None))
            self._has_read(task, size)

    def _has_read(self, task: Growing, tokens: int) -> None:
        task.read += tokens
        self.tokens = self.tokens._replace(prompt=self.tokens.prompt + tokens)

    def _write(self, tasks: Sequence[Growing]) -> None:
        """A token more of each, in one step."""
        try:
            with self._busy():
                rows = self._forward.write([task.cache for task in tasks], [task.written[-1] for task in tasks])
        except BaseException as error:
            if len(tasks) > 1:
                # Alone they get the same tokens; only those whose fault it is fail again.
                for task in tasks:
                    self._write([task])
                return
            self._fail(tasks[0], error)
            return
        for task, logits in zip(tasks, rows, strict=True):
            with self._failing(task):
                self._choose(task, logits)

    def _choose(self, task: Growing, logits: torch.Tensor) -> None:
        """The next token, behind these logits (vocabulary,)."""
        step = task.grown(logits)
        self.tokens = self.tokens._replace(generated=self.tokens.generated + 1)
        task.answer.put(step)
        if step.end is not None:
            self._active.remove(task)

    @contextmanager
    def _failing(self, task: Growing) -> Iterator[None]:
        """What goes wrong within ends this answer only."""
        try:
            yield
        except BaseException as error:
            self._fail(task, error)

    def _fail(self, task: Growing, error: BaseException) -> None:
        log.error("a step of an answer failed", exc_info=error)
        task.answer.put(as_exception(error))
        self._active.remove(task)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._busy_since_s = time.monotonic()
        try:
            yield
        finally:
            self._busy_since_s = None

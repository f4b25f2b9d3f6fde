"""A language model as a judge of pairs: asked for yes or no, its probability of yes is the score.

Only the two logits behind the question are looked at, as in monoT5 (Nogueira et al. 2020, arXiv:2003.06713) and the
rerankers made of decoders since: nothing is generated, so a pair costs one forward pass. sigmoid(yes - no) is the
softmax over the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn

from corpus.conversations.chat_template import ChatTemplate
from corpus.conversations.control_tokens import ControlTokens
from corpus.conversations.examples import Message
from corpus.conversations.model_files import load_template, load_tokenizer
from jobspecs.kinds.score_pairs import PLACEHOLDER, Question
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput
from workers.local_models.base_model import invalid_model
from workers.local_models.devices import autocast, move_to
from workers.local_models.ranking_model import Pair, Scores, sigmoid
from workers.local_models.tokens import Int64s, by_length
from workers.run.context import RunFailed

#: Tokens of one batch, padding included.
_BATCH_TOKENS = 4096
#: A template may ask for the date; always the same one, or a resumed run would not repeat its scores.
_DATE = datetime(2026, 1, 1, tzinfo=UTC)
#: Texts that are too long lose at least this share at once, so that cutting ends soon.
_CUT_SHARE = 0.02


class YesNoModel:
    """A causal language model with a question, ready to score on `device`."""

    def __init__(
        self, model: nn.Module, folder: Path, question: Question, max_tokens: int, device: torch.device
    ) -> None:
        try:
            self._tokenizer = load_tokenizer(folder)
            self._template: ChatTemplate = load_template(folder, self._tokenizer, lambda: _DATE)
        except InvalidInput as error:
            raise invalid_model(str(error)) from error
        self._control = ControlTokens(self._tokenizer)
        self._model, self._question, self._device = move_to(model, device).train(False), question, device
        self.max_tokens = max_tokens
        self._answers = [self._first_token(answer) for answer in (question.yes, question.no)]
        if self._answers[0] == self._answers[1]:
            raise invalid_model(
                f"{question.yes!r} and {question.no!r} begin with the same token; choose other words for yes and no."
            )
        if len(self._ids(("", ""))) > max_tokens:
            raise RunFailed(
                Reason.invalid_dataset,
                f"field question.prompt: without any text it takes {len(self._ids(('', '')))} tokens, "
                f"and max_length is {max_tokens}. Raise max_length or shorten the prompt.",
            )

    def score_pairs(
        self, pairs: Sequence[Pair], *, raw: bool = False, after_batch: Callable[[int], None] = lambda done: None
    ) -> Scores:
        """Scores (N,) of pairs, in their order: logit of yes less logit of no if `raw`, else 0 to 1.

        `after_batch` is told the number of pairs done and may raise.
        """
        prompts = [self._cut(pair) for pair in pairs]
        lengths = np.array([len(ids) for ids in prompts], dtype=np.int64)
        scores = np.zeros(len(pairs), dtype=np.float32)
        done = 0
        for rows in by_length(lengths, _BATCH_TOKENS):
            yes, no = self._logits([prompts[row] for row in rows], lengths[rows]).unbind(dim=1)
            scores[rows] = (yes - no).cpu().numpy()
            done += len(rows)
            after_batch(done)
        return scores if raw else sigmoid(scores)

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Tokens of each pair's question, after cutting."""
        return [len(self._cut(pair)) for pair in pairs]

    def prompt(self, pair: Pair) -> str:
        """The text that the model reads, up to where it would answer."""
        return self._control.unmarked(self._marked_prompt(pair))[0]

    def _marked_prompt(self, pair: Pair) -> str:
        """With the control tokens in the pair's texts marked; those of the question and the template are no text."""
        texts = self._control.marked(pair)
        return self._template.render(self._messages(texts), add_generation_prompt=True).text

    def _messages(self, pair: Sequence[str]) -> list[Message]:
        texts = dict(zip(("query", "passage"), pair, strict=True)) | dict(
            zip(("sentence1", "sentence2"), pair, strict=True)
        )
        # One pass over the template: braces and placeholders within the texts stay what they are.
        asked = PLACEHOLDER.sub(lambda match: texts[match[1]], self._question.prompt)
        system = [] if self._question.system is None else [Message("system", self._question.system)]
        return [*system, Message("user", asked)]

    def _ids(self, pair: Pair) -> list[int]:
        return self._control.encoded(*self._control.unmarked(self._marked_prompt(pair)))[0]

    def _cut(self, pair: Pair) -> list[int]:
        """The ids of a pair's question; what is too long loses the end of its longer text, never of the question."""
        first, second = pair
        while len(ids := self._ids((first, second))) > self.max_tokens:
            share = max(_CUT_SHARE, 1 - self.max_tokens / len(ids))
            chars = max(1, round(share * (len(first) + len(second)) / 2))
            first, second = (first[:-chars], second) if len(first) > len(second) else (first, second[:-chars])
        return ids

    def _first_token(self, answer: str) -> int:
        ids = self._tokenizer.encode(answer, add_special_tokens=False).ids
        if not ids:
            raise invalid_model(f"the tokenizer makes no token of {answer!r}; choose another word.")
        return int(ids[0])

    def _logits(self, prompts: list[list[int]], lengths: Int64s) -> torch.Tensor:
        """The logits (B, 2) of yes and no behind each prompt; prompts end at the right, so one position serves all."""
        longest = int(lengths.max())
        mask = torch.arange(longest) >= torch.from_numpy(longest - lengths)[:, None]
        ids = torch.zeros(mask.shape, dtype=torch.long)
        ids[mask] = torch.tensor([token for prompt in prompts for token in prompt])
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        with torch.inference_mode(), autocast(self._device):
            output = self._model(
                input_ids=ids.to(self._device),
                attention_mask=mask.long().to(self._device),
                position_ids=positions.to(self._device),
                use_cache=False,
                logits_to_keep=1,
            )
        logits: torch.Tensor = output.logits[:, -1, self._answers].float()
        return logits

"""A language model as the judge of two answers, asked twice: judges like what stands first (L. Zheng et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jobspecs.kinds.evaluate import Evaluate, JudgingModel
from jobspecs.kinds.score_pairs import Question
from workers.local_models.adapters import is_adapter, load_adapter
from workers.local_models.base_model import load_causal_lm
from workers.local_models.devices import prepare_device
from workers.scoring.yes_no import YesNoModel

#: What is asked, one answer, and the other one.
Contest = tuple[str, str, str]


class AnswerJudge:
    """Tells which of two answers is better by the probabilities of the letters A and B behind the question."""

    def __init__(self, spec: Evaluate, judge: JudgingModel, folder: Path, base: Path | None) -> None:
        whole = base if base is not None and is_adapter(folder) else folder
        loaded = load_causal_lm(whole)
        model = load_adapter(loaded.model, folder) if is_adapter(folder) else loaded.model
        question = Question(prompt=f"{{query}}\n\n{{passage}}\n\n{judge.question}", yes="A", no="B")
        # Beside the question there are two answers.
        limit = min(loaded.max_tokens, spec.max_length + 2 * spec.generation.max_new_tokens)
        self._model = YesNoModel(model, whole, question, limit, prepare_device())

    def prefer(self, contests: Sequence[Contest], after_each: Callable[[int], None] = lambda done: None) -> list[float]:
        """1 where the first answer is preferred in both orders, 0 where the second is, 0.5 where the order decides."""
        pairs = [
            (f"Question:\n{asked}", f"A:\n{first}\n\nB:\n{second}")
            for asked, one, other in contests
            for first, second in ((one, other), (other, one))
        ]
        found = self._model.score_pairs(pairs, after_batch=lambda done: after_each(done // 2))
        return [
            0.5 * (float(as_first > 0.5) + float(as_second < 0.5))
            for as_first, as_second in zip(found[0::2].tolist(), found[1::2].tolist(), strict=True)
        ]

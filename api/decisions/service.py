"""Asks a deployed classifier what it decides."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from api.classify.schemas import EngineAnswer
from api.decisions.schemas import (
    Answer,
    ChoiceQuestion,
    DecisionsRequest,
    DecisionsResponse,
    DecisionsUsage,
    Question,
    Said,
    ScoreQuestion,
)
from api.errors import ApiError
from api.inference.engine import answering, ask, deployed, tokens_of, version_of, wrong_answer
from api.parts import Parts
from jobspecs.rights import Principal
from jobspecs.tasks import TEXT_CLASSIFICATION

#: Labels that a refusal tells.
_LABELS_SHOWN = 20


async def decide(parts: Parts, user: Principal, request: DecisionsRequest) -> DecisionsResponse:
    """Raises ApiError: 404 without such a deployment, 422 when it is no classifier or lacks a label, 429, 503."""
    _check_ids(request)
    engine = await deployed(parts, user, request.model, TEXT_CLASSIFICATION)
    response = await ask(parts, engine, "/classify", {"inputs": [_text(request.input)], "truncate": True})
    with answering(engine.name):
        results = EngineAnswer.model_validate_json(response.content).results
    if len(results) != 1:
        raise wrong_answer(engine.name, f"gave {len(results)} results for one text")
    scores = {item.label: item.score for item in results[0]}
    answers = {
        question.id: _answer(question, f"questions[{place}]", scores, request.temperature)
        for place, question in enumerate(request.questions)
    }
    tokens = tokens_of(response)
    return DecisionsResponse(
        model=request.model,
        version=version_of(response, engine),
        answers=answers,
        usage=DecisionsUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _answer(question: Question, field: str, scores: Mapping[str, float], temperature: float) -> Answer:
    labels = _labels(question)
    where = f"{field}.{_field(question)}"
    for label in labels.values():
        if label not in scores:
            known = ", ".join(sorted(scores)[:_LABELS_SHOWN])
            raise ApiError(422, f"{where}: {label!r} is no label of this classifier, which has: {known}.", param=where)
    if len(set(labels.values())) < _count(question):
        raise ApiError(422, f"{where}: a label stands there twice.", param=where)
    found = _evened({name: scores[label] for name, label in labels.items()}, temperature)
    best = max(found, key=lambda name: found[name])
    return Answer(
        type=question.type,
        probabilities=found,
        label_mass=sum(scores[label] for label in labels.values()),
        choice=None if isinstance(question, ScoreQuestion) else best,
        score=sum(int(name) * share for name, share in found.items()) if isinstance(question, ScoreQuestion) else None,
    )


def _count(question: Question) -> int:
    if isinstance(question, ChoiceQuestion):
        return len(question.options)
    return len(question.levels) if isinstance(question, ScoreQuestion) else 2


def _labels(question: Question) -> dict[str, str]:
    """Name in the answer -> label."""
    if isinstance(question, ChoiceQuestion):
        return {option.name: option.name for option in question.options}
    if isinstance(question, ScoreQuestion):
        return {str(number): level for number, level in enumerate(question.levels)}
    return {"yes": question.yes, "no": question.no}


def _field(question: Question) -> str:
    if isinstance(question, ChoiceQuestion):
        return "options"
    return "levels" if isinstance(question, ScoreQuestion) else "yes"


def _evened(scores: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Probabilities of these alone, which add up to 1. Of scores that are all 0 each has as much."""
    logs = {name: math.log(max(score, 1e-300)) / temperature for name, score in scores.items()}
    top = max(logs.values())
    shares = {name: math.exp(log - top) for name, log in logs.items()}
    whole = sum(shares.values())
    return {name: share / whole for name, share in shares.items()}


def _text(said: Said) -> str:
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def _check_ids(request: DecisionsRequest) -> None:
    seen: set[str] = set()
    for place, question in enumerate(request.questions):
        if question.id in seen:
            where = f"questions[{place}].id"
            raise ApiError(422, f"{where}: {question.id!r} stands there twice. Answers are told by it.", param=where)
        seen.add(question.id)

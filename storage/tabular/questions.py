"""Questions about paragraphs, as SQuAD lays them out: each becomes a row that pairs the question with its paragraph."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from storage.tabular.formats import refusal

#: Columns of a row, before whatever else the question has.
COLUMNS = ("question", "context", "answer", "answers", "title", "paragraph")
_UNDERSTOOD = frozenset({*COLUMNS, "is_impossible", "plausible_answers", "qas", "paragraphs"})
_REMEDY = 'Each question needs "question" and "answers"; each paragraph "context" and "qas".'
LEFT_OUT = "unanswerable"


def are_questions(row: Mapping[str, Any]) -> bool:
    """Whether a row, or an article or paragraph that holds rows, asks about paragraphs as SQuAD does."""
    if isinstance(row.get("paragraphs"), list):
        return any(isinstance(paragraph, dict) and "qas" in paragraph for paragraph in row["paragraphs"])
    if isinstance(row.get("qas"), list):
        return isinstance(row.get("context"), str)
    texts = all(isinstance(row.get(name), str) for name in ("question", "context"))
    return texts and _is_answers(row.get("answers"))


def question_rows(
    rows: Iterator[Mapping[str, Any]], file: str, counts: Counter[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields {question, context, answer, answers, title, paragraph, ...} of each question that its paragraph answers.

    `paragraph` is the same for the same text, in any file. A question without an answer in its paragraph is left out
    and counted in `counts[LEFT_OUT]`. Raises InvalidInput; its row is the article's, paragraph's or flat row's.
    """
    for number, row in enumerate(rows, start=1):
        for paragraph in _paragraphs(row, file, number):
            for asked in _asked(paragraph, file, number):
                found = _pair(asked, paragraph, row.get("title"), file, number)
                if found is not None:
                    yield found
                elif counts is not None:
                    counts[LEFT_OUT] += 1


def _paragraphs(row: Mapping[str, Any], file: str, number: int) -> list[Mapping[str, Any]]:
    found = row.get("paragraphs", [row])
    if not isinstance(found, list) or not all(isinstance(paragraph, dict) for paragraph in found):
        raise refusal("the paragraphs are no list of objects.", file, _REMEDY, number, "paragraphs")
    return found


def _asked(paragraph: Mapping[str, Any], file: str, number: int) -> list[Mapping[str, Any]]:
    found = paragraph.get("qas", [paragraph] if "question" in paragraph else None)
    if not isinstance(found, list) or not all(isinstance(asked, dict) for asked in found):
        raise refusal("a paragraph has no list of questions.", file, _REMEDY, number, "qas")
    return found


def _pair(
    asked: Mapping[str, Any], paragraph: Mapping[str, Any], title: object, file: str, number: int
) -> dict[str, Any] | None:
    """None when the paragraph does not answer the question."""
    question, context = asked.get("question"), paragraph.get("context")
    for name, value in (("question", question), ("context", context)):
        if not isinstance(value, str):
            raise refusal(f"the {name} is no text.", file, _REMEDY, number, name)
    answers = _texts(asked.get("answers", []), file, number)
    if asked.get("is_impossible") is True or ("answers" in asked and not answers):
        return None
    paragraph_id = hashlib.blake2b(str(context).encode("utf-8", "replace"), digest_size=8).hexdigest()
    return {
        "question": question,
        "context": context,
        "answer": answers[0] if answers else None,
        "answers": answers,
        "title": title,
        "paragraph": paragraph_id,
        **{name: value for name, value in asked.items() if name not in _UNDERSTOOD},
    }


def _is_answers(value: object) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("text"), list) and "answer_start" in value
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "text" in one for one in value)


def _texts(answers: object, file: str, number: int) -> list[str]:
    """Each text once, in order: several people may have answered."""
    listed = isinstance(answers, dict)
    found = answers.get("text") if isinstance(answers, dict) else answers
    texts = found if listed or not isinstance(found, list) else [one.get("text") for one in found if one]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise refusal("the answers are no list of texts.", file, _REMEDY, number, "answers")
    return list(dict.fromkeys(texts))

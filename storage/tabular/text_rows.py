"""Rows of texts, one a line, and of CoNLL's blocks: a token and its tags a line, blank lines between sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from storage.tabular.formats import refusal
from storage.tabular.lines import BadLine, Line

#: Tokens of one sentence: a file without blank lines would be one row.
TOKENS_MAX = 100_000
#: Fields of CoNLL-U: number, form, lemma, universal part of speech, and six more.
_CONLLU_FIELDS = 10


def text_rows(lines: Iterator[Line], file: str) -> Iterator[dict[str, str]]:
    """Yields {"text": line} for each line that is not blank. Raises InvalidInput."""
    for line in _checked(lines, file):
        text = line.text.rstrip("\r\n")
        if text.strip():
            yield {"text": text}


def conll_rows(lines: Iterator[Line], file: str) -> Iterator[dict[str, Any]]:
    """Yields {"text", "tokens", "tags"} for each sentence; `text` is its tokens with spaces between them.

    A line's first field is the token and its last the tag; of CoNLL-U they are the form and the universal part of
    speech. Fields stand apart by tabs, or by spaces where there are no tabs. Raises InvalidInput.
    """
    tokens: list[str] = []
    tags: list[str] = []
    row, width = 1, 0
    for line in _checked(lines, file):
        text = line.text.strip("\r\n\ufeff")
        fields = text.split("\t") if "\t" in text else text.split()
        if not text.strip():
            if tokens and tokens != ["-DOCSTART-"]:
                yield _sentence(tokens, tags)
                row += 1
            tokens, tags = [], []
            continue
        if text.startswith("#") and len(fields) != width and (width or "\t" not in text):
            continue
        width = width or len(fields)
        _check(fields, width, line.number, file, row)
        token = _token(fields)
        if token is not None:
            tokens.append(token[0])
            tags.append(token[1])
        if len(tokens) > TOKENS_MAX:
            message = f"a sentence has more than {TOKENS_MAX:,} tokens."
            raise refusal(message, file, "Put a blank line between sentences.", row)
    if tokens and tokens != ["-DOCSTART-"]:
        yield _sentence(tokens, tags)


def _checked(lines: Iterator[Line], file: str) -> Iterator[Line]:
    try:
        yield from lines
    except BadLine as error:
        raise refusal(error.message, file, error.remedy) from error


def _check(fields: list[str], width: int, number: int, file: str, row: int) -> None:
    if width < 2:
        message = f"line {number} has one field, not a token and a tag."
        raise refusal(message, file, "Write a token, a tab and its tag; texts without tags are .txt.", row)
    if len(fields) != width:
        message = f"line {number} has {len(fields)} fields, the lines before it {width}."
        raise refusal(message, file, "Give every token of the file equally many fields, with tabs between them.", row)


def _token(fields: list[str]) -> tuple[str, str] | None:
    """Token and tag; None for what CoNLL-U writes beside the words: ranges of them, and words left out."""
    if len(fields) == _CONLLU_FIELDS:
        return (fields[1], fields[3]) if fields[0].isdecimal() else None
    return fields[0], fields[-1]


def _sentence(tokens: list[str], tags: list[str]) -> dict[str, Any]:
    return {"text": " ".join(tokens), "tokens": tokens, "tags": tags}

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

    A line's first field is the token, or the second where the first counts tokens, and its last the tag; of CoNLL-U
    they are the form and the universal part of speech. Fields stand apart by tabs, or by spaces where there are no
    tabs. Raises InvalidInput.
    """
    sentence: list[list[str]] = []
    numbered: bool | None = None
    tabs: bool | None = None
    row, width = 1, 0
    for line in _checked(lines, file):
        text = line.text.strip("\r\n\ufeff")
        fields = text.split("\t") if "\t" in text else text.split()
        if not text.strip():
            numbered = _is_numbered(sentence, numbered)
            if (found := _sentence(sentence, numbered)) is not None:
                yield found
                row += 1
            sentence = []
            continue
        if _is_comment(text, tabs, begins=not sentence) or (text.startswith("#") and width not in (0, len(fields))):
            continue
        tabs = "\t" in text if tabs is None else tabs
        width = width or len(fields)
        _check(fields, width, line.number, file, row)
        sentence.append(fields)
        if len(sentence) > TOKENS_MAX:
            message = f"a sentence has more than {TOKENS_MAX:,} tokens."
            raise refusal(message, file, "Put a blank line between sentences.", row)
    if (found := _sentence(sentence, _is_numbered(sentence, numbered))) is not None:
        yield found


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


def _is_comment(text: str, tabs: bool | None, begins: bool) -> bool:
    """Whether a line is no token, though it may have as many fields; # is one as well.

    `tabs`: whether they part the fields of the file, None: that is not known yet. `begins`: no token of the sentence
    came before.
    """
    if not text.startswith("#"):
        return False
    if "\t" not in text and tabs is not False:
        return True
    return begins and (text.startswith("# ") or "://" in text)


def _is_numbered(sentence: list[list[str]], before: bool | None) -> bool | None:
    """Whether the first field counts the tokens; of a single token, as it was `before`, None: nothing was."""
    if not sentence or (len(sentence) == 1 and before is not None):
        return before
    counted = [fields[0] for fields in sentence] == [str(number) for number in range(1, len(sentence) + 1)]
    return counted and len(sentence[0]) > 2


def _sentence(lines: list[list[str]], numbered: bool | None) -> dict[str, Any] | None:
    """None where nothing is said. CoNLL-U has ranges of words and words left out beside the words."""
    if lines and len(lines[0]) == _CONLLU_FIELDS:
        found = [(fields[1], fields[3]) for fields in lines if fields[0].isdecimal()]
    else:
        found = [(fields[1] if numbered else fields[0], fields[-1]) for fields in lines]
    tokens, tags = [token for token, _ in found], [tag for _, tag in found]
    if not tokens or tokens == ["-DOCSTART-"]:
        return None
    return {"text": " ".join(tokens), "tokens": tokens, "tags": tags}

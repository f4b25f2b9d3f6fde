"""How near an answer comes to the right one: exactly, in words (ROUGE: C.-Y. Lin 2004), and as JSON of a schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from jobspecs.strict_json import UnacceptableJson, parse_json

_WORD = re.compile(r"\w+")
#: Words of a text that ROUGE-L looks at: its time grows with the product of both.
_WORDS_MAX = 2000


def exact_match(answer: str, right: str) -> bool:
    """Whether both are the same but for case and spaces."""
    return " ".join(answer.casefold().split()) == " ".join(right.casefold().split())


def rouge(answer: str, right: str) -> dict[str, float]:
    """F1 (0 to 1) of common words, pairs of words, and the longest common subsequence; words are in small letters."""
    found, wanted = (_WORD.findall(text.lower()) for text in (answer, right))
    return {
        "rouge_1": _overlap(found, wanted),
        "rouge_2": _overlap(list(pairwise(found)), list(pairwise(wanted))),
        "rouge_l": _f1(_common(found[:_WORDS_MAX], wanted[:_WORDS_MAX]), len(found), len(wanted)),
    }


def schema_validator(schema: dict[str, Any]) -> Validator:
    """What tells whether documents are of a schema; nothing is fetched for it. Raises ValueError for none."""
    if elsewhere := next((ref for ref in _references(schema) if not ref.startswith("#")), None):
        raise ValueError(f"json_schema refers to {elsewhere}, and nothing is fetched: write it into the schema")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"json_schema is no JSON schema: {error.message}") from error
    made: Validator = kind(schema, registry=Registry())
    return made


def keeps_to(answer: str, validator: Validator) -> bool:
    """Whether an answer is a JSON document of the schema and nothing else. Raises ValueError for a broken schema."""
    try:
        return bool(validator.is_valid(parse_json(answer.encode())))
    except UnacceptableJson:
        return False
    except Unresolvable as error:
        raise ValueError(f"json_schema refers to what it does not hold: {error}") from error


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (ref for name in ("$ref", "$dynamicRef") if isinstance(ref := part.get(name), str))
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from _references(inner)


def _overlap(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    common = sum((Counter(found) & Counter(wanted)).values())
    return _f1(common, len(found), len(wanted))


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if found + wanted else 0.0


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Words of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, candidate in enumerate(other, start=1):
            above = lengths[place]
            lengths[place] = before + 1 if word == candidate else max(above, lengths[place - 1])
            before = above
    return lengths[-1]

"""Conditions of steps: comparisons of figures and numbers, joined by `and`, `or`, `not` and parentheses. A grammar of
our own, read by a parser of our own: nothing that is written in a spec is ever run.

    $train.macro_f1.low > $prod.macro_f1.high or not $prod.exists

A *figure* is `$SOURCE.NAME`, where the source is a step or one of the pipeline's `models`; `.low` and `.high` are the
ends of its 95 % interval. Truth has three values: what compares a figure that was not measured is unknown (None), and
so is its negation; `or` and `and` know what one side alone decides (S. C. Kleene's strong logic, 1938). Only what is
true lets a step begin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

#: Characters of a condition, and parentheses and `not` within one another.
CONDITION_CHARS_MAX, _DEPTH_MAX = 2000, 20

#: How steps and named models are called.
SOURCE_PATTERN = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_METRIC = r"[A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*)?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<figure>\$(?P<source>{SOURCE_PATTERN})\.(?P<metric>{_METRIC})(?:\.(?P<end>low|high))?(?![\w./-]))"
    r"|(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<operator><=|>=|==|!=|<|>)|(?P<word>and|or|not)\b|(?P<paren>[()]))"
)
#: The figure of a named model that tells whether there is one.
EXISTS = "exists"

Operator = Literal["<", "<=", ">", ">=", "==", "!="]
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}
#: The figures that were measured, by the names of manifests. None: there is no such model.
Metrics = Mapping[str, float] | None
Look = Callable[[str], Metrics]


@dataclass(frozen=True, slots=True)
class Figure:
    """`name` as it is written, `end` of its interval or the figure itself."""

    source: str
    name: str
    end: Literal["low", "high"] | None = None

    def __str__(self) -> str:
        return f"${self.source}.{self.name}" + (f".{self.end}" if self.end else "")

    def names(self) -> tuple[str, ...]:
        """What it may be called in a manifest, best first: without a part it is that of the rows that judged."""
        name = f"{self.name}_{self.end}" if self.end else self.name
        parts = ("test", "validation", "scores", "evaluation")
        return (name,) if "/" in name else (name, *(f"{part}/{name}" for part in parts))

    def value(self, look: Look) -> float | None:
        metrics = look(self.source)
        return None if metrics is None else next((metrics[name] for name in self.names() if name in metrics), None)


@dataclass(frozen=True, slots=True)
class Exists:
    source: str

    def __str__(self) -> str:
        return f"${self.source}.{EXISTS}"

    def truth(self, look: Look) -> bool | None:
        return look(self.source) is not None


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Figure | float
    operator: Operator
    right: Figure | float

    def truth(self, look: Look) -> bool | None:
        left, right = (side.value(look) if isinstance(side, Figure) else side for side in (self.left, self.right))
        return None if left is None or right is None else _OPERATORS[self.operator](left, right)


@dataclass(frozen=True, slots=True)
class Not:
    inner: Condition

    def truth(self, look: Look) -> bool | None:
        inner = self.inner.truth(look)
        return None if inner is None else not inner


@dataclass(frozen=True, slots=True)
class Joined:
    """`and` or `or` of two or more."""

    word: Literal["and", "or"]
    parts: tuple[Condition, ...]

    def truth(self, look: Look) -> bool | None:
        found = [part.truth(look) for part in self.parts]
        decisive = self.word == "or"
        if decisive in found:
            return decisive
        return None if None in found else not decisive


Condition = Exists | Comparison | Not | Joined


class ConditionError(ValueError):
    """The text is no condition. The message is for people."""


def parse_condition(text: str) -> Condition:
    """Raises ConditionError, which says what is wrong and where."""
    if len(text) > CONDITION_CHARS_MAX:
        raise ConditionError(f"a condition has at most {CONDITION_CHARS_MAX:,} characters.")
    parser = _Parser(text)
    found = parser.any_of(0)
    parser.end()
    return found


def figures_of(condition: Condition) -> Iterator[Figure | Exists]:
    """Everything that it looks at, in the order in which it is written."""
    if isinstance(condition, Exists):
        yield condition
    elif isinstance(condition, Comparison):
        yield from (side for side in (condition.left, condition.right) if isinstance(side, Figure))
    elif isinstance(condition, Not):
        yield from figures_of(condition.inner)
    else:
        for part in condition.parts:
            yield from figures_of(part)


def seen(condition: Condition, look: Look) -> dict[str, float | bool | None]:
    """Each figure with the value that the condition saw; None where it was not measured."""
    return {
        str(figure): figure.truth(look) if isinstance(figure, Exists) else figure.value(look)
        for figure in figures_of(condition)
    }


class _Parser:
    """Recursive descent over the tokens, one ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._token: re.Match[str] | None = None
        self._next()

    def any_of(self, depth: int) -> Condition:
        return self._joined("or", self._all_of, depth)

    def end(self) -> None:
        if self._token is not None:
            raise self._error("and, or, or the end")

    def _all_of(self, depth: int) -> Condition:
        return self._joined("and", self._one, depth)

    def _joined(self, word: Literal["and", "or"], part: Callable[[int], Condition], depth: int) -> Condition:
        parts = [part(depth)]
        while self._is("word", word):
            self._next()
            parts.append(part(depth))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > _DEPTH_MAX:
            raise ConditionError("it is nested too deeply.")
        if self._is("word", "not"):
            self._next()
            return Not(self._one(depth + 1))
        if self._is("paren", "("):
            self._next()
            found = self.any_of(depth + 1)
            if not self._is("paren", ")"):
                raise self._error("a closing parenthesis")
            self._next()
            return found
        token = self._token
        if token is not None and token["metric"] == EXISTS and token["end"] is None:
            self._next()
            return Exists(token["source"])
        left = self._side()
        if self._token is None or self._token["operator"] is None:
            raise self._error("one of < <= > >= == !=")
        operator = self._token["operator"]
        self._next()
        return Comparison(left, operator, self._side())  # type: ignore[arg-type]  # the token's pattern

    def _side(self) -> Figure | float:
        token = self._token
        if token is not None and token["figure"] is not None and token["metric"] != EXISTS:
            self._next()
            return Figure(token["source"], token["metric"], token["end"])  # type: ignore[arg-type]  # likewise
        if token is not None and token["number"] is not None:
            self._next()
            return float(token["number"])
        raise self._error("a number or a figure such as $train.macro_f1.low")

    def _is(self, group: str, text: str) -> bool:
        return self._token is not None and self._token[group] == text

    def _next(self) -> None:
        self._at = self._token.end() if self._token is not None else self._at
        self._token = _TOKEN.match(self._text, self._at)
        if self._token is None and self._text[self._at :].strip():
            raise self._error("a figure, a number, a comparison, and, or, not, or a parenthesis")

    def _error(self, expected: str) -> ConditionError:
        at = self._token.start() if self._token is not None else self._at
        rest = self._text[at:].strip()
        met = repr(rest[:40]) if rest else "the end"
        return ConditionError(f"{expected} is expected where {met} stands.")

"""How columns that no format has may be told: from the names that they have in public data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corpus.conversations.turns import is_turn

#: Names that columns of questions, of what belongs to them, and of answers have in public data sets.
_ASKED = ("question", "instruction", "query", "prompt", "input", "problem")
_GIVEN = ("context", "input", "passage")
_ANSWERED = ("response", "answer", "output", "completion", "solution", "target")


def advice_of(columns: Sequence[str], first_row: Mapping[str, Any], with_answers: bool) -> str:
    """What to write in the spec for columns with other names; nothing where nobody can tell."""
    turns = next((name for name in columns if _holds_turns(first_row.get(name))), None)
    if turns is not None:
        return f"Column {turns!r} holds turns: name it messages. "
    asked = next((name for name in _ASKED if name in columns), None)
    if asked is None:
        return ""
    given = next((name for name in _GIVEN if name in columns and name != asked), None)
    parts = [f'prompt: "{{{asked}}}' + (f"\\n\\n{{{given}}}" if given else "") + '"']
    if with_answers:
        answered = next((name for name in _ANSWERED if name in columns and name not in (asked, given)), None)
        if answered is None:
            return ""
        parts.append(f'completion: "{{{answered}}}"')
    system = next((name for name in ("system", "system_prompt") if name in columns), None)
    parts += [f'system: "{{{system}}}"'] if system else []
    return f"Say which columns they are: data: {{{', '.join(parts)}}}. "


def _holds_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and is_turn(value[0])

"""Values that JSON does not have, as previews, profiles and files that jobs make write them: never as Python does."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from typing import Any


def as_json(value: Any) -> Any:
    """The value as JSON has it: a missing number is null, and what it has no kind for is `text_of` it."""
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else text_of(name): as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else text_of(value)


def text_of(value: Any) -> str:
    """Bytes as the text that they are or in base64, moments in ISO 8601, durations as `26:30:00`; decimals, UUIDs."""
    if isinstance(value, bytes):
        text = utf8_of(value)
        return base64.b64encode(value).decode() if text is None else text
    if isinstance(value, timedelta):
        return duration(value)
    return value.isoformat() if isinstance(value, date | time) else str(value)


def utf8_of(value: bytes) -> str | None:
    """The text that bytes are; None: they are none."""
    try:
        return None if b"\0" in value else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def duration(value: timedelta) -> str:
    """Hours, minutes and seconds: `26:30:00`, `-0:00:01.500000`."""
    whole = abs(value)
    minutes, seconds = divmod(whole.days * 86_400 + whole.seconds, 60)
    text = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return ("-" if value < timedelta() else "") + text + (f".{whole.microseconds:06}" if whole.microseconds else "")

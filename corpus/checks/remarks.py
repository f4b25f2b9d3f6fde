"""What is said of rows that can be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remark:
    """What is worth a warning about a row that can be used. Equal ones are counted and said once."""

    field: str
    message: str
    remedy: str

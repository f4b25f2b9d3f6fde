"""Why a verdict is unclear, in plain words: the same for every kind."""

from __future__ import annotations

import math
from typing import Literal

Helped = Literal["yes", "no", "unclear"]

#: Fewer can prove nothing at 95 %, whatever the resamples say: chance puts all of five on one side in 1 of 16 cases.
JUDGED_MIN = 6
#: Times what was held out, beyond which it makes no sense to name how many are needed.
_NEEDED_MAX = 100


def why_unclear(difference: float, low: float, high: float, judged: int, what: str = "held-out rows") -> str:
    """`judged`: how many independent ones of `what`. Intervals narrow with their root: how many would tell?"""
    if judged < JUDGED_MIN:
        return f"So few independent {what} prove nothing: at least {JUDGED_MIN} are needed."
    if difference == 0:
        return f"The two are equally good on these {what}."
    needed = judged * ((high - low) / 2 / difference) ** 2
    if needed > _NEEDED_MAX * judged:
        return f"The difference may be chance: {_NEEDED_MAX} times as many {what} would not tell one so small."
    enough = _rounded(max(needed, judged + 1))
    return f"The difference may be chance: to tell one of this size takes about {enough:,} {what}."


def _rounded(count: float) -> int:
    """Up, to two digits."""
    unit: int = 10 ** max(0, len(str(int(count))) - 2)
    return math.ceil(count / unit) * unit

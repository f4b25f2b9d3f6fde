"""What an estimate must know of the data: how many sequences, and how long they are when the model reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobspecs.data_report import DataReport

#: The largest of some hundred batches lies this many standard deviations above their mean.
_LARGEST_BATCH_DEVIATIONS = 2.5


@dataclass(frozen=True)
class DataFacts:
    """Lengths in tokens, after sequences were cut."""

    rows: int
    sequences_per_row: float
    mean: float
    deviation: float
    longest: int
    #: The longest sequences, the longest first, and how many there are in all; empty when not known.
    longest_few: tuple[int, ...] = ()
    sequences: int = 0
    #: Rows that judge or choose, where the check has dealt them; None when not known.
    held_out: int | None = None
    #: From a check of the data set, not from its profile.
    counted: bool = True

    def tokens(self, sequences: float) -> float:
        """Tokens of the largest batch of so many sequences, on average over jobs."""
        spread = _LARGEST_BATCH_DEVIATIONS * self.deviation * math.sqrt(sequences)
        return min(self.mean * sequences + spread, self.longest * sequences)

    def longest_among(self, sequences: float) -> float:
        """Tokens of the longest sequence that comes up, when so many of all are drawn."""
        share = min(1.0, sequences / self.sequences) if self.sequences else 1.0
        missed, expected = 1.0, 0.0
        for length in self.longest_few:
            expected += missed * share * length
            missed *= 1 - share
        least = self.longest_few[-1] if self.longest_few else self.longest
        return min(expected + missed * least, float(self.longest))

    def longest_of(self, sequences: float) -> float:
        """Tokens of the longest of so many sequences: mean plus what a normal distribution's largest is above it."""
        above = self.deviation * math.sqrt(2 * math.log(max(2.0, sequences)))
        return max(1.0, min(self.mean + above, float(self.longest)))


def facts_of_report(report: DataReport, rows: int | None = None) -> DataFacts | None:
    """`rows`: of the whole data set, where the check read its beginning only. None when nothing was counted."""
    tokens = report.tokens
    if tokens is None or not report.usable:
        return None
    return DataFacts(
        rows=report.usable if report.complete else max(report.usable, rows or 0),
        sequences_per_row=tokens.sequences / report.usable,
        mean=tokens.read_mean,
        deviation=tokens.read_deviation,
        longest=min(tokens.longest, tokens.max_length),
        longest_few=tokens.longest_few,
        sequences=tokens.sequences,
        held_out=report.held_out.validation + report.held_out.choosing if report.held_out is not None else None,
    )


def facts_of_bound(rows: int, longest: int) -> DataFacts:
    """Where nothing was counted: no sequence has more than `longest` tokens, and half of that is taken as usual."""
    return DataFacts(rows, 1.0, longest / 2, longest / 4, longest, counted=False)

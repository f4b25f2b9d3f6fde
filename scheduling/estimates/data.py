"""What an estimate must know of the data: how many sequences, and how long they are when the model reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobspecs.data_report import DataReport
from jobspecs.profile import DatasetProfile

_CHARS_PER_TOKEN = 4
_SPECIAL_TOKENS = 2
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
    #: Rows held out; None when the split is not known.
    validation_rows: int | None = None
    #: From a check of the whole data set, not from its profile.
    counted: bool = True

    def tokens(self, sequences: float) -> float:
        """Tokens of the largest batch of so many sequences, on average over jobs."""
        spread = _LARGEST_BATCH_DEVIATIONS * self.deviation * math.sqrt(sequences)
        return min(self.mean * sequences + spread, self.longest * sequences)

    def longest_of(self, sequences: float) -> float:
        """Tokens of the longest of so many sequences: mean plus what a normal distribution's largest is above it."""
        above = self.deviation * math.sqrt(2 * math.log(max(2.0, sequences)))
        return max(1.0, min(self.mean + above, float(self.longest)))


def facts_of_report(report: DataReport) -> DataFacts | None:
    """None when there is nothing that was counted."""
    tokens = report.tokens
    if tokens is None or not report.usable:
        return None
    return DataFacts(
        rows=report.usable,
        sequences_per_row=tokens.sequences / report.usable,
        mean=tokens.read_mean,
        deviation=tokens.read_deviation,
        longest=min(tokens.longest, tokens.max_length),
        validation_rows=report.held_out.validation if report.held_out else None,
    )


def facts_of_profile(profile: DatasetProfile, columns: list[str], max_length: int, *, together: bool) -> DataFacts:
    """From the characters of the columns. `together`: they make one sequence per row, not one each."""
    known = [profile.columns[name] for name in columns if name in profile.columns]
    mean = sum(column.mean_chars for column in known) / _CHARS_PER_TOKEN
    # English and German rarely have fewer than three characters per token over a whole text.
    longest = sum(column.longest_chars for column in known) / (_CHARS_PER_TOKEN - 1)
    per_row = 1 if together else max(1, len(known))
    if not together:
        mean, longest = mean / per_row, max((column.longest_chars for column in known), default=0) / 3
    mean, longest = min(mean + _SPECIAL_TOKENS, max_length), min(longest + _SPECIAL_TOKENS, max_length)
    # Nothing is known of the spread; half the mean is usual for texts that people write.
    return DataFacts(profile.rows, per_row, mean, min(mean / 2, longest - mean), math.ceil(longest), counted=False)

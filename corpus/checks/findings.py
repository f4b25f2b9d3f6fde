"""What one pass over a data set keeps: counts, 33 bytes per row, 8 per text that ties rows, and names of groups."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from corpus.checks.occurrences import KINDS_MAX, Occurrences, Refusals
from corpus.checks.remarks import Remark
from corpus.splits import Indices, Roles, SplitRows
from jobspecs.data_report import (
    LONGEST_SHOWN,
    REFUSED_ROWS_SHOWN,
    ROWS_NAMED,
    HeldOut,
    LengthBin,
    Overlap,
    Setting,
    TokenLengths,
)
from jobspecs.dialect import Dialect
from jobspecs.problems import Problem

#: Rows among which duplicates and leaks are looked for: 330 MB at most, and 80 MB for each text that ties them; kinds
#: with scores keep as many of these, 40 MB.
ROWS_KEPT_MAX = 10_000_000
#: Longer sequences count as this long.
_TOKENS_MAX = 1 << 20
_BINS = 12


def normalised(text: str) -> str:
    """The text without the differences that nobody means: case and spaces."""
    return " ".join(text.casefold().split())


def text_hash(text: str) -> int:
    """64 bits of the normalised text. Among ten million texts, two meet by chance in 3 of a million data sets."""
    return int.from_bytes(hashlib.blake2b(normalised(text).encode("utf-8", "replace"), digest_size=8).digest(), "big")


def text_hashes(texts: Iterable[str]) -> Indices:
    """(N,) `text_hash` of each text, its bits read as a signed number."""
    return np.fromiter(map(text_hash, texts), dtype=np.uint64).view(np.int64)


def _exact_hash(text: str) -> int:
    """64 bits, signed, of the text as it is."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True)
class _Part:
    """The usable rows from the one counted `first` on are of this file; `name`: None where it is the data set's own."""

    first: int
    name: str | None
    dialect: Dialect

    def row_name(self, number: int) -> str:
        of_several = bool(self.dialect.files)
        return self.dialect.row_name(number) + (f" of {self.name}" if self.name and not of_several else "")

    def located(self, problem: Problem, number: int) -> Problem:
        file, row = self.dialect.place(number)
        return problem.model_copy(update={"file": file or self.name, "row": row})


@dataclass
class Findings:
    """Filled row by row; the arrays hold one entry per usable row, in file order."""

    parts: list[_Part] = field(default_factory=lambda: [_Part(0, None, Dialect())])
    usable: int = 0
    refused_rows: list[Problem] = field(default_factory=list)
    #: What the kind warns of beyond what is judged for all of them.
    warnings: list[Problem] = field(default_factory=list)
    #: Settings that the data decide.
    settings: dict[str, Setting] = field(default_factory=dict)
    #: Usable rows, counted from 0, of which nothing is learnt, and the tokens that the longest of them needs.
    unlearnable: array[int] = field(default_factory=lambda: array("q"))
    tokens_needed: int = 0
    #: Reasons to refuse a row, and remarks on rows that can be used, with the rows that they are said of.
    refusals: Refusals = field(default_factory=Refusals)
    remarks: dict[Remark, Occurrences] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)
    #: Name of a class, or a digest of a query -> its number, counted from 0 in order of appearance.
    groups: dict[str, int] = field(default_factory=dict)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    contents: array[int] = field(default_factory=lambda: array("Q"))
    guarded: array[int] = field(default_factory=lambda: array("Q"))
    group_of_row: array[int] = field(default_factory=lambda: array("q"))
    #: As many entries of each row, for kinds that tie rows by their texts.
    tied: array[int] = field(default_factory=lambda: array("q"))
    #: What the split deals where that is not rows: the row of each, counted from 0, and what must be on one side.
    dealt: tuple[Indices, Indices] | None = None
    #: Texts on both sides of the split.
    overlap: Overlap = field(default_factory=Overlap)
    #: One entry per row: VALIDATION or TEST where the spec says that it is such a row.
    of_rows: array[int] = field(default_factory=lambda: array("b"))

    def begin(self, dialect: Dialect, name: str | None = None) -> None:
        """The rows that follow are of a file that is read like this, `name` where it isn't the data set's own."""
        if (self.parts[-1].name, self.parts[-1].dialect) != (name, dialect):
            self.parts.append(_Part(len(self.numbers), name, dialect))

    def row_name(self, place: int) -> str:
        """What people call the usable row at this place, counted from 0."""
        return self._part(place).row_name(self.numbers[place])

    def located(self, problem: Problem, place: int) -> Problem:
        """`problem`, said of the usable row at this place."""
        return self._part(place).located(problem, self.numbers[place])

    def _part(self, place: int) -> _Part:
        return next(part for part in reversed(self.parts) if part.first <= place)

    @property
    def refused(self) -> int:
        return self.refusals.count

    def refuse(self, problem: Problem, read_as: Dialect) -> None:
        """`problem` is of a row of a file that is `read_as` this."""
        if len(self.refused_rows) < REFUSED_ROWS_SHOWN:
            self.refused_rows.append(read_as.located(problem))
        self.refusals.add(problem, read_as)

    def leave_out(self, tokens_needed: int) -> None:
        """The row that was added last teaches nothing within the job's length."""
        self.unlearnable.append(len(self.numbers) - 1)
        self.tokens_needed = max(self.tokens_needed, tokens_needed)

    @property
    def unlearnable_rows(self) -> tuple[int, ...]:
        """The first of them, as numbers of the data set."""
        return tuple(self.numbers[at] for at in self.unlearnable[:ROWS_NAMED])

    def remark(self, remark: Remark, row: int) -> None:
        if remark not in self.remarks and len(self.remarks) < KINDS_MAX:
            said = Problem(field=remark.field, message=remark.message, remedy=remark.remedy)
            self.remarks[remark] = Occurrences(self.parts[-1].located(said, row))
        if remark in self.remarks:
            self.remarks[remark].add(row, self.parts[-1].row_name)

    def add(
        self,
        number: int,
        content: str,
        guarded: str,
        group: str,
        tied: Sequence[str] = (),
        *,
        role: int = 0,
    ) -> None:
        self.usable += 1
        if len(self.numbers) < ROWS_KEPT_MAX:
            self.numbers.append(number)
            self.of_rows.append(role)
            self.contents.append(text_hash(content))
            self.guarded.append(text_hash(guarded))
            self.group_of_row.append(self.groups.setdefault(group, len(self.groups)))
            self.tied.extend(_exact_hash(text) for text in tied)

    def add_length(self, tokens: int) -> None:
        self.lengths[min(tokens, _TOKENS_MAX)] += 1

    def rename_groups(self, names: Mapping[str, str]) -> None:
        """Group -> its new name; groups with the same one are merged."""
        renamed: dict[str, int] = {}
        numbers = [renamed.setdefault(names[group], len(renamed)) for group in self.groups]
        self.group_of_row = array("q", np.array(numbers, dtype=np.int64)[self.group_numbers].tobytes())
        self.groups = renamed

    def first_rows(self) -> dict[str, int]:
        """Group -> the place of its first row, counted from 0."""
        return dict(zip(self.groups, np.unique(self.group_numbers, return_index=True)[1].tolist(), strict=True))

    @property
    def roles(self) -> Roles:
        """(N,) VALIDATION or TEST where the spec says that it is such a row, else 0."""
        return np.array(self.of_rows, dtype=np.int8)

    @property
    def group_numbers(self) -> Indices:
        return np.frombuffer(self.group_of_row, dtype=np.int64) if self.group_of_row else np.zeros(0, np.int64)

    @property
    def guarded_texts(self) -> Indices:
        """(N,) numbers of what must not be on both sides."""
        return np.frombuffer(self.guarded, dtype=np.int64) if self.guarded else np.zeros(0, np.int64)

    def tied_texts(self, width: int = 2) -> Indices:
        """(N, width) numbers of the texts by which rows are tied; more rows than there are where each has several."""
        hashes = np.frombuffer(self.tied, dtype=np.int64) if self.tied else np.zeros(0, np.int64)
        return hashes.reshape(-1, width)

    @property
    def duplicates(self) -> int:
        """Rows that repeat an earlier one."""
        return (
            len(self.contents) - len(np.unique(np.frombuffer(self.contents, dtype=np.uint64))) if self.contents else 0
        )

    def class_counts(self) -> dict[str, int]:
        """Rows per group, the largest first."""
        counts = np.bincount(self.group_numbers, minlength=len(self.groups))
        return dict(sorted(zip(self.groups, counts.tolist(), strict=True), key=lambda item: (-item[1], item[0])))

    def held_out(self, split: SplitRows, unit: str) -> HeldOut:
        """The split's sizes without rows that teach nothing, and which held-out rows are known from training."""
        rows, guarded = self.dealt or (np.arange(len(self.guarded)), self.guarded_texts)
        leaked = split.validation[np.isin(guarded[split.validation], guarded[split.train])]
        left_out = np.array(self.unlearnable, dtype=np.int64)
        sides = (split.train, split.validation, split.choosing)
        train, validation, choosing = (int((~np.isin(rows[side], left_out)).sum()) for side in sides)
        first = self.located(Problem(message=""), int(rows[leaked[0]])) if len(leaked) else None
        return HeldOut(
            unit=unit,
            train=train,
            validation=validation,
            choosing=choosing,
            leaked=len(leaked),
            choosing_too=split.choosing_too(guarded),
            first_leaked_row=first.row if first else None,
            first_leaked_file=first.file if first else None,
            overlap=self.overlap,
        )

    def token_lengths(self, unit: str, counted_by_tokenizer: bool, max_length: int) -> TokenLengths | None:
        """None when there is no sequence."""
        if not self.lengths:
            return None
        lengths = np.array(sorted(self.lengths), dtype=np.int64)
        counts = np.array([self.lengths[int(length)] for length in lengths], dtype=np.int64)
        total = int(counts.sum())
        read = np.minimum(lengths, max_length)
        mean = float((read * counts).sum() / total)
        below = np.cumsum(counts)

        def percentile(share: float) -> int:
            return int(lengths[np.searchsorted(below, share * total)])

        return TokenLengths(
            counted_by="tokenizer" if counted_by_tokenizer else "characters",
            unit=unit,
            sequences=total,
            mean=round(float((lengths * counts).sum() / total), 2),
            read_mean=round(mean, 2),
            read_deviation=round(float(np.sqrt((counts * (read - mean) ** 2).sum() / total)), 2),
            p50=percentile(0.5),
            p95=percentile(0.95),
            longest=int(lengths[-1]),
            longest_few=tuple(np.repeat(lengths, np.minimum(counts, LONGEST_SHOWN))[::-1][:LONGEST_SHOWN].tolist()),
            max_length=max_length,
            truncated=int(counts[lengths > max_length].sum()),
            bins=_bins(lengths, counts),
        )


def _bins(lengths: Indices, counts: Indices) -> tuple[LengthBin, ...]:
    """At most _BINS bins of equal width, a multiple of 1, 2 or 5 times a power of ten."""
    span = int(lengths[-1]) + 1
    width = next(w for power in range(8) for w in (10**power, 2 * 10**power, 5 * 10**power) if w * _BINS >= span)
    found = np.bincount(lengths // width, weights=counts).astype(np.int64)
    first = int(lengths[0]) // width
    return tuple(
        LengthBin(low=index * width, high=(index + 1) * width - 1, sequences=int(found[index]))
        for index in range(first, len(found))
    )

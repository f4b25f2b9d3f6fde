"""The one pass: rows in, a report out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from corpus.checks.findings import Findings
from corpus.checks.judging import problems_of, remarks_of, warnings_of
from corpus.checks.reader import Reader
from corpus.checks.registry import validator_of
from corpus.checks.rows import CheckedFile, Rows, UsableRow, Validator
from corpus.checks.settings import decided_settings, settings_of, warnings_of_settings
from corpus.held_out import DataPart, parts_of
from corpus.splits import SplitRows
from jobspecs.data_report import CLASSES_SHOWN, DataReport, RefusedKind
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.training import TrainingSpec
from jobspecs.problems import InvalidInput, Problem

#: Rows between two questions to `should_stop`, and texts per call of the tokenizer.
_CHUNK_ROWS = 1024


def check_data(
    spec: SpecBase,
    file: CheckedFile,
    reader: Reader,
    should_stop: Callable[[], bool] = lambda: False,
    held_out: CheckedFile | None = None,
    test: CheckedFile | None = None,
) -> DataReport | None:
    """Reads the whole data set once; memory grows by 33 bytes per row, 4 per score and 8 per text that ties rows.

    None: this kind has no check.

    `held_out` and `test`: the data sets of the sections `validation` and `test`. When `should_stop` says so, the report
    is of the rows read so far, and `complete` is false.
    """
    validator = validator_of(spec, reader)
    if validator is None:
        return None
    found, unreadable = Findings(), list[Problem]()
    complete = True
    for part, chunk in _chunks(validator, _parts(spec, file, (held_out, test), unreadable), unreadable):
        found.begin(part.file.fmt.dialect, part.file.name if part.whole else None)
        _take(chunk, part, found, reader)
        if should_stop():
            complete = False
            break
    unreadable = [_said_of_spec(spec, problem) for problem in unreadable]
    split, impossible = _split(validator, found) if complete and not unreadable else (None, [])
    return _report(spec, file, reader, validator, found, split, [*unreadable, *impossible], complete)


def _parts(
    spec: SpecBase,
    file: CheckedFile,
    others: tuple[CheckedFile | None, CheckedFile | None],
    unreadable: list[Problem],
) -> tuple[DataPart, ...]:
    try:
        return parts_of(file, *others, spec if isinstance(spec, TrainingSpec) else None)
    except InvalidInput as error:
        unreadable.extend(error.problems)
        return (DataPart(file),)


def _chunks(
    validator: Validator, parts: Sequence[DataPart], unreadable: list[Problem]
) -> Iterator[tuple[DataPart, list[UsableRow | Problem]]]:
    """A file that can't be read any further ends its rows, and says why in `unreadable`."""
    for part in parts:
        readable = _until_unreadable(_located(part.file, validator.rows(part.file)), unreadable)
        while chunk := list(islice(readable, _CHUNK_ROWS)):
            yield part, chunk


def _until_unreadable(rows: Rows, unreadable: list[Problem]) -> Rows:
    try:
        yield from rows
    except InvalidInput as error:
        unreadable.extend(error.problems)


def _said_of_spec(spec: SpecBase, problem: Problem) -> Problem:
    """What is wrong with a whole column is said of the spec's field that names it."""
    fields = {column: field for field, column in spec.read_columns()}
    return (
        problem
        if problem.row is not None
        else problem.model_copy(update={"field": fields.get(problem.field or "", problem.field)})
    )


def _located(file: CheckedFile, rows: Rows) -> Rows:
    with file.locating():
        yield from rows


def _take(chunk: list[UsableRow | Problem], part: DataPart, found: Findings, reader: Reader) -> None:
    texts: list[str | tuple[str, str]] = []
    for row in chunk:
        if isinstance(row, Problem):
            row = row.model_copy(update={"file": part.file.name}) if part.whole else row
            found.refuse(row, part.file.fmt.dialect)
            continue
        found.add(row.number, row.content, row.guarded, row.group, row.tied, role=part.role(row.number))
        if row.tokens_needed is not None:
            found.leave_out(row.tokens_needed)
        for remark in row.remarks:
            found.remark(remark, row.number)
        for sequence in row.sequences:
            if isinstance(sequence, int):
                found.add_length(sequence)
            else:
                texts.append(sequence)
    for tokens in reader.count(texts) if texts else ():
        found.add_length(tokens)


def _split(validator: Validator, found: Findings) -> tuple[SplitRows | None, list[Problem]]:
    if not found.usable:
        return None, []
    try:
        return validator.split(found), []
    except InvalidInput as error:
        return None, list(error.problems)


def _report(
    spec: SpecBase,
    file: CheckedFile,
    reader: Reader,
    validator: Validator,
    found: Findings,
    split: SplitRows | None,
    problems: list[Problem],
    complete: bool,
) -> DataReport:
    max_length = min(validator.max_length, reader.max_tokens or validator.max_length)
    classes = found.class_counts() if validator.classes else None
    held_out = found.held_out(split, validator.split_unit) if split is not None else None
    decided = decided_settings(spec, held_out.train if held_out is not None else None)
    report = DataReport(
        kind=spec.kind,
        file=file.name,
        rows=found.usable + found.refused,
        usable=found.usable,
        complete=complete,
        refused=found.refused,
        refused_rows=tuple(found.refused_rows),
        refused_kinds=tuple(
            RefusedKind(count=kind.count, rows=tuple(kind.rows), row_names=tuple(kind.row_names), problem=kind.problem)
            for kind in found.refusals.kinds
        ),
        duplicates=found.duplicates,
        unlearnable=len(found.unlearnable),
        unlearnable_rows=found.unlearnable_rows,
        unlearnable_tokens=found.tokens_needed,
        tokens=found.token_lengths(validator.unit, reader.tokenizer is not None, max_length),
        held_out=held_out,
        classes=dict(islice(classes.items(), CLASSES_SHOWN)) if classes is not None else None,
        classes_total=len(classes) if classes is not None else None,
        settings={**settings_of(spec), **decided, **found.settings},
    )
    warnings = [
        *warnings_of_settings(spec),
        *found.warnings,
        *warnings_of(report, spec, found, validator, reader.max_tokens),
        *remarks_of(found),
    ]
    problems = problems_of(report, spec, problems, found, validator, reader.max_tokens)
    return report.model_copy(
        update={"problems": tuple(map(file.located, problems)), "warnings": tuple(map(file.located, warnings))}
    )

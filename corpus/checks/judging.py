"""From figures to words: what of a data set can't work, and what is wasteful."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from corpus.checks.findings import Findings
from corpus.checks.rows import Validator
from corpus.checks.settings import largest, settings_of
from jobspecs.data_report import ROWS_NAMED, DataReport, HeldOut, TokenLengths
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.training import CHOOSING_ROWS_MIN, Optimization, TrainingSpec
from jobspecs.problems import Problem

#: Shares above which a warning is due.
TRUNCATED_SHARE, DUPLICATE_SHARE, LEAKED_SHARE, OVERLAP_SHARE = 0.20, 0.10, 0.01, 0.20
#: Fewer rows than these teach, or prove, little.
TRAIN_ROWS_FEW, VALIDATION_ROWS_FEW = 50, 30
#: The largest class has more than this share, or more than so many times the rows of the smallest.
CLASS_SHARE, CLASS_RATIO = 0.95, 50
#: A chosen max_length is far above the longest sequence when it is at least so many times as large.
MAX_LENGTH_RATIO = 4


def problems_of(
    report: DataReport,
    spec: SpecBase,
    stopped_by: Sequence[Problem],
    found: Findings,
    validator: Validator,
    base_tokens_max: int | None,
) -> list[Problem]:
    """Why the job can't work: what stopped the reading or the split, and rows that the runner would stop at."""
    problems = list(stopped_by)
    if report.refused and not validator.skips_bad_rows:
        problems.append(_of_refused(report))
    if _nothing_to_learn(report):
        field_max = largest(spec, validator.max_length_field)
        problems.append(_of_unlearnable(report, found, validator, base_tokens_max, field_max))
    if not report.usable and not problems:
        problems.append(
            Problem(
                field="dataset", file=report.file, message="there is no row that can be used.", remedy="Push more rows."
            )
        )
    return problems


def warnings_of(
    report: DataReport,
    spec: SpecBase,
    found: Findings,
    validator: Validator,
    base_tokens_max: int | None,
) -> list[Problem]:
    """What the job can do, but should perhaps not. `base_tokens_max`: what the base model reads, if that is known."""
    warnings = [_of_refused(report)] if report.refused and validator.skips_bad_rows else []
    warnings += [*_of_completeness(report), *_of_duplicates(report), *_of_split(report, spec, validator)]
    warnings += _of_classes(report, spec)
    field_max = largest(spec, validator.max_length_field)
    if report.unlearnable and not _nothing_to_learn(report):
        warnings.append(_of_unlearnable(report, found, validator, base_tokens_max, field_max))
    if report.tokens is not None:
        warnings += _of_lengths(report.tokens, validator, base_tokens_max, field_max)
    return warnings


def _nothing_to_learn(report: DataReport) -> bool:
    """Whether rows that begin to answer too late leave a side of the split empty."""
    held = report.held_out
    if held is None or not report.unlearnable:
        return bool(report.unlearnable) and report.unlearnable == report.usable
    return not held.train or not held.validation


def _of_unlearnable(
    report: DataReport, found: Findings, validator: Validator, base_tokens_max: int | None, field_max: int | None
) -> Problem:
    length = report.tokens.max_length if report.tokens is not None else validator.max_length
    first = found.unlearnable[:ROWS_NAMED]
    named = ", ".join(map(found.row_name, first))
    more = ", …" if report.unlearnable > len(first) else ""
    left = ", and too few others are left to train on and to judge by" if _nothing_to_learn(report) else ""
    problem = Problem(
        field=validator.max_length_field,
        message=f"{_rows(report.unlearnable)} ({named}{more}) will be left out: what is to be learnt of them begins "
        f"after {length} tokens{left}.",
        remedy=_remedy_of_cut(report.unlearnable_tokens, length, base_tokens_max, field_max),
    )
    return found.located(problem, first[0])


def remarks_of(found: Findings) -> list[Problem]:
    """What is said of rows that can be used: once, with how many they are and the first of them."""
    return [
        kind.problem.model_copy(update={"message": f"{kind.named}: {kind.problem.message}"})
        for kind in found.remarks.values()
    ]


def _of_refused(report: DataReport) -> Problem:
    first = report.refused_rows[0]
    return Problem(
        field="dataset",
        file=first.file or report.file,
        row=first.row,
        message=f"{_rows(report.refused)} can't be used, the first of them: {_reason(first)}",
        remedy=first.remedy or "Mend these rows or leave them out.",
    )


def _of_completeness(report: DataReport) -> Iterator[Problem]:
    if not report.complete:
        yield Problem(
            field="dataset",
            message=f"only the first {report.rows:,} rows were looked at so far; the job checks all before it trains.",
        )


def _of_duplicates(report: DataReport) -> Iterator[Problem]:
    if report.duplicates > DUPLICATE_SHARE * report.usable:
        yield Problem(
            field="dataset",
            message=f"{report.duplicates:,} of {report.usable:,} rows repeat an earlier one.",
            remedy="Leave the repetitions out, or train for fewer epochs.",
        )


def _of_split(report: DataReport, spec: SpecBase, validator: Validator) -> Iterator[Problem]:
    held = report.held_out
    if held is None:
        return
    dealt = held.train + held.validation + held.choosing + held.overlap.left_out
    sampled = getattr(spec, "rows", None) is not None and dealt < report.usable
    more_rows = "Raise rows, which takes a sample of the data set" if sampled else "Push more rows"
    if held.leaked > LEAKED_SHARE * held.validation:
        yield Problem(
            field="dataset",
            file=held.first_leaked_file,
            row=held.first_leaked_row,
            message=f"{held.leaked:,} of {held.validation:,} held-out rows are also trained on: "
            "the verdict will flatter the result.",
            remedy="Leave the repetitions out.",
        )
    yield from _of_meeting_parts(spec, held)
    if _nothing_to_learn(report):
        # Said already, with what would help; advice on the few rows that are left would not.
        return
    if not held.train:
        yield Problem(
            field="dataset",
            message=f"no row is left to train on: all {held.validation + held.overlap.left_out:,} that can be used are "
            "held out or left out.",
            remedy=f"{more_rows}, or hold out fewer.",
        )
    elif held.train < TRAIN_ROWS_FEW:
        yield Problem(
            field="dataset",
            message=f"there {'is' if held.train == 1 else 'are'} {_rows(held.train)} to train on, which is very few.",
            remedy=f"{more_rows}, and compare the result with the baselines before you use it.",
        )
    elif validator.batch_size is not None and held.train < validator.batch_size:
        yield Problem(
            field="training.batch_size",
            message=f"a batch has {validator.batch_size} rows and there are {held.train} to train on: "
            "an epoch is one step.",
            remedy="Lower batch_size.",
        )
    yield from _of_choosing(spec, held)
    if held.validation < VALIDATION_ROWS_FEW:
        yield Problem(
            field=_field_that_judges(spec),
            message=f"{held.validation} rows are held out: too few to tell a good result from luck.",
            # What is held out can't be trained on.
            remedy=f"{more_rows}."
            if held.train < TRAIN_ROWS_FEW + VALIDATION_ROWS_FEW or _field_that_judges(spec) != "validation.fraction"
            else f"Raise validation.fraction. {more_rows} if that leaves too few to train on.",
        )


def _field_that_judges(spec: SpecBase) -> str:
    """What says which rows judge, or how many are drawn."""
    if not isinstance(spec, TrainingSpec) or (spec.judging_part == "validation" and not spec.validation.given):
        return "validation.fraction"
    return spec.judging_part


def _of_meeting_parts(spec: SpecBase, held: HeldOut) -> Iterator[Problem]:
    """Rows and texts that are in several parts of the split, and rows that are in none because of that."""
    if _choosing_decides(spec) is not None and held.choosing_too > LEAKED_SHARE * held.validation:
        yield Problem(
            field="validation",
            message=f"{held.choosing_too:,} of {held.validation:,} rows that judge are also among those of validation, "
            "which choose: the verdict will flatter the result.",
            remedy="Leave the repetitions out of validation.",
        )
    if held.overlap.left_out > held.train + held.validation + held.choosing:
        yield Problem(
            field="validation.by",
            message=f"{held.overlap.left_out:,} rows, most of all, are left out because they would join the sides.",
            remedy="Write validation: {by: first}, or name columns that share fewer texts: negatives tie rows as well.",
        )
    known = max((of.trained_on / of.held_out for of in held.overlap.fields), default=0.0)
    if known > OVERLAP_SHARE:
        yield Problem(
            field="validation.by",
            message=f"{held.overlap.sentence} The verdict is not about texts that are new.",
            remedy="Write validation: {by: both} to judge by new texts alone; what joins the sides is then left out.",
        )


def _choosing_decides(spec: SpecBase) -> Literal["end", "weights"] | None:
    training = getattr(spec, "training", None)
    return training.choosing_decides if isinstance(training, Optimization) else None


def _of_choosing(spec: SpecBase, held: HeldOut) -> Iterator[Problem]:
    """Rows of `validation` beside those of `test` that decide nothing, and do not train either."""
    decides = _choosing_decides(spec)
    if not held.choosing or (decides is not None and held.choosing >= CHOOSING_ROWS_MIN):
        return
    said = f"{_rows(held.choosing)} of validation neither train nor judge, and decide nothing: "
    if decides == "weights":
        said = f"{_rows(held.choosing)} of validation decide whose weights are kept: too few to tell better from luck."
    elif decides == "end":
        said += f"fewer than {CHOOSING_ROWS_MIN} say nothing, and training ends as without them."
    else:
        said += "nothing is chosen while it trains."
    remedy = (
        "Name more rows, or leave validation out." if decides is not None else "Leave validation out, and they train."
    )
    yield Problem(field="validation", message=said, remedy=remedy)


def _of_classes(report: DataReport, spec: SpecBase) -> Iterator[Problem]:
    if not report.classes or report.classes_total is None or report.classes_total < 2:
        return
    (name, most), least = next(iter(report.classes.items())), min(report.classes.values())
    if most > CLASS_SHARE * report.usable or most > CLASS_RATIO * least:
        yield Problem(
            field="label",
            message=f"the classes are very uneven: {name!r} has {most:,} of {report.usable:,} rows, "
            f"the smallest of those shown {least:,}.",
            remedy="Add rows of the small classes"
            + (", or leave class_weights out." if settings_of(spec).get("class_weights") == "none" else "."),
        )


def _of_lengths(
    tokens: TokenLengths, validator: Validator, base_tokens_max: int | None, field_max: int | None
) -> Iterator[Problem]:
    if tokens.truncated_share > TRUNCATED_SHARE:
        yield Problem(
            field=validator.max_length_field,
            message=f"{tokens.truncated_share:.0%} of the {tokens.unit}s are longer than {tokens.max_length} tokens "
            f"and will be cut; 95 % have at most {tokens.p95}.",
            remedy=_remedy_of_cut(tokens.p95, tokens.max_length, base_tokens_max, field_max),
        )
    if validator.max_length_chosen and validator.max_length >= MAX_LENGTH_RATIO * tokens.longest:
        yield Problem(
            field=validator.max_length_field,
            message=f"max_length is {validator.max_length} and the longest {tokens.unit} has {tokens.longest} tokens.",
            remedy="Lower it, or look whether this is the column that you mean.",
        )


def _remedy_of_cut(wanted: int, max_length: int, base_tokens_max: int | None, field_max: int | None) -> str:
    """Never a length that can't be set, or that the base model does not read."""
    most = min((bound for bound in (base_tokens_max, field_max) if bound is not None), default=wanted)
    if wanted <= most:
        return f"Raise max_length to {wanted}, or shorten or split long texts."
    who = "the base model reads" if most == base_tokens_max else "max_length takes"
    another = f", or choose a base model that reads {wanted:,} tokens" if most == base_tokens_max else ""
    raised = f" max_length: {most} keeps more of them, but not all." if max_length < most else ""
    return f"Shorten or split long texts{another}: {who} no more than {most:,} tokens.{raised}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _reason(problem: Problem) -> str:
    return f"column {problem.field!r}: {problem.message}" if problem.field else problem.message

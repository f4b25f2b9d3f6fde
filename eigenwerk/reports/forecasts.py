"""What is known of a job before it runs, and what it took, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eigenwerk.reports.reporting import columns, size
from eigenwerk.reports.watch import duration
from jobspecs.data_report import DataReport, HeldOut, RefusedKind, TokenLengths
from jobspecs.estimate import Estimate, MemoryParts

#: Characters of the longest bar of a histogram.
_BAR_CHARS = 40
#: Classes that are shown one by one.
_CLASSES_SHOWN = 10
_PARTS = ("weights", "gradients", "optimizer", "activations", "lm_head", "runtime")


def report_lines(report: DataReport) -> list[str]:
    """Counts, the histogram of lengths, and what was found. Problems and warnings are for the caller to show."""
    facts = [
        ("file", report.file),
        ("rows", f"{report.rows:,}" + ("" if report.complete else ", of which not all were looked at")),
        ("refused", f"{report.refused:,}"),
        ("duplicates", f"{report.duplicates:,}"),
        ("held out", _held_out(report.held_out)),
        ("classes", _classes(report)),
        ("trains with", _settings(report)),
    ]
    lines = columns(["", ""], [[name, value] for name, value in facts if value])
    if report.tokens is not None:
        lines += ["", *_histogram(report.tokens)]
    if report.refused_rows:
        lines += ["", "refused rows:", *_refused(report)]
    return lines


def _refused(report: DataReport) -> Iterator[str]:
    """Each reason once, with how many rows it is for and the first of them."""
    # Platforms that are older than the client tell rows only.
    kinds = report.refused_kinds or [RefusedKind(count=1, rows=(), problem=row) for row in report.refused_rows]
    for kind in kinds:
        further = f" (as {kind.count - 1:,} more: {_named(kind)})" if kind.count > 1 else ""
        yield f"  {kind.problem}{further}"
    if others := report.refused - sum(kind.count for kind in kinds):
        yield f"  … and {others:,} more"


def _named(kind: RefusedKind) -> str:
    named = ", ".join(map(str, (kind.row_names or kind.rows)[1:]))
    return f"row {named}{', …' if kind.count > len(kind.rows) else ''}"


def estimate_lines(made: Estimate) -> list[str]:
    """Parameters, a table of memory by part, and the duration band."""
    share = f"  ({made.trainable_parameters / made.parameters:.1%} of them)" if made.parameters else ""
    facts = [
        ["parameters", f"{made.parameters:,}"],
        ["trained", f"{made.trainable_parameters:,}{share}"],
        ["tokens", f"{made.tokens:,} through the model"],
        ["duration", _band(made)],
    ]
    gpu = made.gpu_memory
    rows = [_part_row(name, made.main_memory, gpu) for name in _PARTS]
    rows.append(["all of it", size(made.main_memory.total), size(gpu.total) if gpu is not None else ""])
    table = columns(["memory", "of the host", "of the GPU" if gpu is not None else ""], rows)
    return [*columns(["", ""], facts), "", *table, *(["", *made.assumptions] if made.assumptions else [])]


def use_lines(report: Mapping[str, Any], attempts: int = 1, run_s: float | None = None) -> list[str]:
    """Estimate against measured, from a finished job's report; empty for jobs of platforms that did not measure.

    `run_s`: seconds of all attempts together; the report knows only the last one's.
    """
    memory, time = report.get("memory"), report.get("duration")
    rows = []
    if isinstance(memory, Mapping):
        for name, key in (("memory", "bytes"), ("GPU memory", "gpu_bytes")):
            if (measured := memory.get(f"measured_{key}")) is not None:
                expected = memory.get(f"estimated_{key}")
                rows.append([name, size(measured), f"{size(expected)} estimated" if expected is not None else ""])
    if isinstance(time, Mapping) and (seconds := time.get("measured_s")) is not None:
        low, high = time.get("estimated_low_s"), time.get("estimated_high_s")
        band = f"{duration(low)} to {duration(high)} estimated" if low is not None and high is not None else ""
        if attempts > 1 and run_s is not None:
            rows.append(["time", duration(run_s), ", ".join(filter(None, [f"{attempts} attempts together", band]))])
            rows.append(["last attempt", duration(seconds), ""])
        else:
            rows.append(["time", duration(seconds), band])
    return columns(["", "", ""], rows) if rows else []


def _held_out(held: HeldOut | None) -> str:
    if held is None:
        return ""
    leaked = f"; {held.leaked:,} of these are also trained on" if held.leaked else ""
    overlap = f"; {held.overlap.sentence.removesuffix('.')}" if held.overlap.fields else ""
    choosing = f"; {held.choosing:,} to choose when to end" if held.choosing else ""
    return f"{held.validation:,} rows, {held.train:,} to train on{leaked}{choosing}{overlap}"


def _classes(report: DataReport) -> str:
    if not report.classes:
        return ""
    shown = [f"{name} {count:,}" for name, count in list(report.classes.items())[:_CLASSES_SHOWN]]
    more = (report.classes_total or 0) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _settings(report: DataReport) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in report.settings.items()
    )


def _histogram(tokens: TokenLengths) -> list[str]:
    exact = "" if tokens.counted_by == "tokenizer" else " (estimated from characters)"
    most = max((bin.sequences for bin in tokens.bins), default=1)
    rows = [
        [
            f"{bin.low}-{bin.high}" if bin.high > bin.low else str(bin.low),
            f"{bin.sequences:,}",
            "█" * round(_BAR_CHARS * bin.sequences / most) or ("▏" if bin.sequences else ""),
        ]
        for bin in tokens.bins
    ]
    cut = f"; {tokens.truncated:,} ({tokens.truncated_share:.0%}) are cut at {tokens.max_length}"
    return [
        f"tokens per {tokens.unit}{exact}: half have at most {tokens.p50}, 95 % at most {tokens.p95}, "
        f"the longest {tokens.longest:,}{cut if tokens.truncated else ''}",
        *columns(["tokens", f"{tokens.unit}s", ""], rows),
    ]


def _part_row(name: str, host: MemoryParts, gpu: MemoryParts | None) -> list[str]:
    words = name.replace("lm_head", "LM head")
    return [words, size(getattr(host, name)), size(getattr(gpu, name)) if gpu is not None else ""]


def _band(made: Estimate) -> str:
    basis = {
        "measured": "as earlier jobs of this kind took here",
        "assumed": "by what such machines usually do; no job of this kind has run through in one go here yet",
    }[made.duration.basis]
    return f"{duration(made.duration.low_s)} to {duration(made.duration.high_s)}, {basis}"

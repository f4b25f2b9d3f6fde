"""models compare: two versions beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from eigenwerk.cli.console import JsonOption, platform, say, say_json
from eigenwerk.reports.reporting import columns
from eigenwerk.resources.model_relations import ModelComparison, RowByRow

Version = Annotated[str, typer.Argument(metavar="NAME[@V]", help="A model; @ takes a version or an alias.")]


def compare(first: Version, second: Version, as_json: JsonOption = False) -> None:
    """Compare two versions: what differs in their specs, their figures, and which of the same held-out rows flipped.

    Example: eigenwerk models compare newsticker-quality@1 newsticker-quality@2
    """
    with platform() as client:
        found = client.compare_models(first, second)
    if as_json:
        say_json(found)
        return
    for line in _lines(found):
        say(line)


def _lines(found: ModelComparison) -> Iterator[str]:
    rows = [[one.field, _value(one.first), _value(one.second)] for one in found.differences]
    yield from columns(["SPEC", found.first, found.second], rows or [["no difference", "", ""]])
    yield ""
    figures = [
        [
            one.name,
            _figure(one.first, one.first_low, one.first_high),
            _figure(one.second, one.second_low, one.second_high),
        ]
        for one in found.figures
    ]
    yield from columns(["FIGURE", found.first, found.second], figures or [["none", "", ""]])
    yield ""
    if found.rows is None:
        yield f"Not compared row by row: {found.why_not}"
    else:
        yield from _by_rows(found.rows)


def _by_rows(rows: RowByRow) -> Iterator[str]:
    surely = "" if rows.low <= 0 <= rows.high else ", which is more than chance"
    yield f"On the same {rows.units:,}: {rows.measure} {rows.first:.4g} and {rows.second:.4g}; difference " + (
        f"{rows.difference:+.4g} ({rows.low:+.4g} to {rows.high:+.4g}){surely}"
    )
    yield f"Better with the second: {rows.better:,}; worse: {rows.worse:,}"
    told = [
        [str(one.row), one.label or "", one.first_said or f"{one.first:.4g}", one.second_said or f"{one.second:.4g}"]
        for one in rows.changed
    ]
    if told:
        yield from columns(["ROW", "LABEL", "FIRST", "SECOND"], told)


def _figure(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" + (f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else "")


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""What whoever pushes a file tells of how its text is to be read, and of where it came from."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from pydantic import ValidationError

from jobspecs.dialect import ENCODINGS, Dialect, Quote
from jobspecs.problems import InvalidInput, Problem
from jobspecs.provenance import Provenance
from storage.tabular.formats import COLUMNS_MAX


def told_dialect(
    columns: Annotated[
        list[str] | None,
        Query(max_length=COLUMNS_MAX, description="names for a CSV, a TSV or a sheet without a header"),
    ] = None,
    delimiter: Annotated[
        str | None, Query(max_length=20, description="comma, semicolon, tab, pipe or a single character")
    ] = None,
    quote: Annotated[Quote | None, Query(description="what quotes fields; none where quotes are text")] = None,
    encoding: Annotated[str | None, Query(max_length=40, description=f"one of {', '.join(ENCODINGS)}")] = None,
    sheet: Annotated[
        str | None, Query(min_length=1, max_length=255, description="the name of a sheet, or its number from 1 on")
    ] = None,
    layout: Annotated[
        str | None,
        Query(max_length=1000, description="of JSON: columns, index, split, array, lines, or below:KEY with its rows"),
    ] = None,
) -> Dialect:
    """What is not told is recognised. Raises InvalidInput."""
    names = None if columns is None else tuple(columns)
    try:
        return Dialect(
            columns=names,
            has_header=columns is None,
            delimiter=delimiter,
            quote=quote,
            encoding=encoding,
            sheet=sheet,
            layout=layout,
        )
    except ValidationError as error:
        raise InvalidInput([_problem(str(each["loc"][0]), each["msg"]) for each in error.errors()]) from error


def told_provenance(
    origin: Annotated[
        str | None, Query(min_length=1, max_length=500, description="where the rows came from: hub:org/name@COMMIT")
    ] = None,
    license: Annotated[
        str | None, Query(min_length=1, max_length=200, description="the licence of the rows: apache-2.0")
    ] = None,
) -> Provenance:
    """Raises InvalidInput."""
    try:
        return Provenance(origin=origin, license=license)
    except ValidationError as error:
        raise InvalidInput([_problem(str(each["loc"][0]), each["msg"]) for each in error.errors()]) from error


ToldDialect = Annotated[Dialect, Depends(told_dialect)]


def _problem(field: str, message: str) -> Problem:
    what, _, remedy = message.removeprefix("Value error, ").partition(". ")
    return Problem(field=field, message=f"it {what}.", remedy=remedy or None)

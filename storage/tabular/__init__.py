"""Tables of any size from the files that people have (docs/data.md), read row by row, with errors that name the row.

fmt = detect_format("headlines.csv.gz")
profile = profile_table(path, fmt, "headlines.csv.gz")
for row in read_rows(path, fmt, columns=["headline", "quality"]):
    ...
"""

from __future__ import annotations

from storage.tabular.formats import TableFormat, detect_format
from storage.tabular.profiling import profile_table
from storage.tabular.reading import first_rows, read_rows

__all__ = ["TableFormat", "detect_format", "first_rows", "profile_table", "read_rows"]

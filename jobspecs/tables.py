"""How names of files end that hold tables: those that are read, and those that people take for such."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

TableKind = Literal["csv", "sheet", "text", "conll", "jsonl", "json", "parquet", "tar"]
Compression = Literal["gz", "xz"]

#: What is read, by ending; each of those that don't compress themselves also with one of COMPRESSIONS behind it.
TABLE_KINDS: Mapping[str, TableKind] = MappingProxyType(
    {
        ".csv": "csv",
        ".tsv": "csv",
        ".txt": "text",
        ".conll": "conll",
        ".conllu": "conll",
        ".xlsx": "sheet",
        ".xlsm": "sheet",
        ".ods": "sheet",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "json",
        ".parquet": "parquet",
        ".tar": "tar",
    }
)
COMPRESSIONS: tuple[Compression, ...] = ("gz", "xz")
#: Packed in a way that is not read.
OTHER_COMPRESSIONS = (".zst", ".bz2", ".lz4", ".br", ".z", ".zip", ".7z", ".rar", ".tgz", ".txz")

_AS_CSV, _AS_PARQUET = "Save the table as .csv, with UTF-8.", "Save the table as .parquet."
#: Tables that are not read, by ending, and what to do.
UNREAD_TABLES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".xls", ".xlsb"), "Save the workbook as .xlsx."),
        ".tab": "Rename it to .tsv, if tabs part its fields.",
        **dict.fromkeys((".sav", ".dta", ".sas7bdat", ".rds", ".rdata"), _AS_CSV),
        **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".sqlite", ".h5", ".pkl", ".pickle"), _AS_PARQUET),
        **dict.fromkeys((".part", ".partial", ".crdownload"), "Its download has not ended: fetch it again."),
    }
)
#: What libraries leave beside the rows; describes them and holds none.
BESIDE_ROWS = frozenset(
    {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json"}
)

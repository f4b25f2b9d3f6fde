"""A stored data set as rows of pandas or datasets, read as the platform reads its file."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from eigenwerk.errors import EigenwerkError
from eigenwerk.resources import DatasetVersionDetail
from jobspecs.tables import COMPRESSIONS, TABLE_KINDS

#: With the mark at its beginning that some programs write, or without.
_UTF_8 = "utf-8-sig"

#: Tells where it has put the version's file, in a folder.
Fetch = Callable[[DatasetVersionDetail, Path], Path]


class DatasetRows:
    """One version. `fetch`: its file; `card`: what the platform's hub says of how it is read."""

    def __init__(self, version: DatasetVersionDetail, fetch: Fetch, card: Callable[[], str]) -> None:
        self.version = version
        self._fetch, self._card = fetch, card

    def to_pandas(self) -> Any:
        """A DataFrame with all rows, in their order. Needs eigenwerk[pandas].

        Raises EigenwerkError for a format that pandas doesn't read as the platform does: workbooks, texts, CoNLL.
        """
        pandas = _library("pandas")
        with tempfile.TemporaryDirectory(prefix="eigenwerk-") as name:
            files = self._files(Path(name))
            reading = self._reading() if any(kind == "csv" for kind in files.values()) else {}
            frames = []
            for path, kind in files.items():
                try:
                    frames.append(_READERS[kind](pandas, path, reading))
                except ImportError as error:
                    raise EigenwerkError(f"This needs pyarrow: {error}. pip install 'eigenwerk[pandas]'") from error
                except (ValueError, KeyError) as error:
                    raise self._unreadable(f"pandas can't read it ({error})") from error
        return frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)

    def to_datasets(self) -> Any:
        """A datasets.Dataset with all rows. Needs eigenwerk[datasets]. Raises EigenwerkError as `to_pandas`."""
        datasets = _library("datasets")
        return datasets.Dataset.from_pandas(self.to_pandas(), preserve_index=False)

    def _files(self, folder: Path) -> dict[Path, str]:
        """Its tables -> their kind."""
        file = self._fetch(self.version, folder)
        if self.version.files and tarfile.is_tarfile(file):
            with tarfile.open(file) as archive:
                archive.extractall(folder, filter="data")
            paths = [folder / part.name for part in self.version.files]
        else:
            paths = [file]
        kinds = {path: _kind(path) for path in paths}
        for path, kind in kinds.items():
            if kind not in _READERS:
                raise self._unreadable(f"{path.name} is no CSV, JSON or Parquet file")
        return kinds

    def _reading(self) -> Mapping[str, Any]:
        """Arguments of pandas' read_csv: separator, encoding, quotes and names, where they are not the usual ones."""
        front = self._card().split("---")[1]
        entry = dict(yaml.safe_load(front)["configs"][0])
        return {name: value for name, value in entry.items() if name not in ("config_name", "data_files")}

    def _unreadable(self, why: str) -> EigenwerkError:
        fetched = f"eigenwerk datasets download {self.version.reference}"
        return EigenwerkError(f"{self.version.reference} can't become rows here: {why}. Fetch the file: {fetched}")


def _read_csv(pandas: Any, path: Path, reading: Mapping[str, Any]) -> Any:
    # Empty fields are empty; words such as NA and None are what they say.
    return pandas.read_csv(path, keep_default_na=False, na_values=[""], **reading)


def _read_lines(pandas: Any, path: Path, reading: Mapping[str, Any]) -> Any:
    with _opened(path) as stream:
        return pandas.DataFrame([json.loads(line) for line in stream if line.strip()])


def _read_json(pandas: Any, path: Path, reading: Mapping[str, Any]) -> Any:
    with _opened(path) as stream:
        rows = json.load(stream)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is no list of objects")
    return pandas.DataFrame(rows)


def _opened(path: Path) -> IO[str]:
    # Not pandas' read_json: it makes dates and numbers of texts that look like some.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=_UTF_8)
    return lzma.open(path, "rt", encoding=_UTF_8) if path.suffix == ".xz" else path.open(encoding=_UTF_8)


def _read_parquet(pandas: Any, path: Path, reading: Mapping[str, Any]) -> Any:
    return pandas.read_parquet(path)


_READERS: Mapping[str, Callable[[Any, Path, Mapping[str, Any]], Any]] = {
    "csv": _read_csv,
    "jsonl": _read_lines,
    "json": _read_json,
    "parquet": _read_parquet,
}


def _kind(path: Path) -> str:
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(f".{compression}")
    return TABLE_KINDS.get(Path(name).suffix, "")


def _library(name: str) -> Any:
    """Raises EigenwerkError unless it is there: the client alone comes without it."""
    if importlib.util.find_spec(name) is None:
        raise EigenwerkError(f"This needs {name}. Install it: pip install 'eigenwerk[{name}]'")
    return importlib.import_module(name)

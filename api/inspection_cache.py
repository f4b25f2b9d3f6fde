"""What one API process keeps of its looks into data sets and models, so that a second look costs nothing."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from jobspecs.data_report import DataReport
from scheduling.estimates.shapes import ModelShape

#: Reports kept; each has a few kilobytes.
_REPORTS_MAX = 256
#: Models whose small files are kept; a multilingual tokenizer.json has 17 MB.
_MODELS_MAX = 32


class InspectionCache:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: OrderedDict[str, DataReport] = OrderedDict()
        self._models: OrderedDict[str, Path] = OrderedDict()
        self._shapes: OrderedDict[Path, ModelShape | None] = OrderedDict()

    def report(self, key: str) -> DataReport | None:
        with self._lock:
            found = self._reports.get(key)
            if found is not None:
                self._reports.move_to_end(key)
            return found

    def keep_report(self, key: str, report: DataReport) -> None:
        with self._lock:
            self._reports[key] = report
            while len(self._reports) > _REPORTS_MAX:
                self._reports.popitem(last=False)

    def shape(self, config: Path, read: Callable[[], ModelShape | None]) -> ModelShape | None:
        """What `read` found out about this file of a kept folder."""
        with self._lock:
            if config in self._shapes:
                return self._shapes[config]
        found = read()
        with self._lock:
            self._shapes[config] = found
            while len(self._shapes) > _MODELS_MAX:
                self._shapes.popitem(last=False)
        return found

    def model_folder(self, name: str) -> Path | None:
        with self._lock:
            found = self._models.get(name)
            if found is None:
                return None
            if not found.is_dir():
                # What cleans /tmp has taken it.
                del self._models[name]
                return None
            self._models.move_to_end(name)
            return found

    def keep_model_folder(self, name: str, folder: Path) -> Path:
        """The folder to use from now on: when two requests met, the first one's."""
        with self._lock:
            kept = self._models.setdefault(name, folder)
            dropped = [self._models.popitem(last=False)[1] for _ in range(len(self._models) - _MODELS_MAX)]
        # A request that reads one of these at this moment has opened its files, or estimates without them.
        for path in dropped + ([folder] if kept != folder else []):
            shutil.rmtree(path, ignore_errors=True)
        return kept

    def close(self) -> None:
        """Deletes the folders."""
        with self._lock:
            folders, self._models = list(self._models.values()), OrderedDict()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def new_folder(spool: Path) -> Path:
    """An empty folder for files of a model or a data set."""
    return Path(tempfile.mkdtemp(prefix="look-", dir=spool))

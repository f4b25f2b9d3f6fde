"""What was found on a hub, fetched and made one file that can be pushed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, count
from pathlib import Path

from eigenwerk.files.several_files import as_one
from eigenwerk.files.transfers import Progress, ignore_progress
from eigenwerk.hub.choosing import kind_of
from eigenwerk.hub.class_names import with_class_names
from eigenwerk.hub.hub_dataset import HubDataset, HubFile
from eigenwerk.hub.repository import check_installed, fetch

#: Shows how many of so many bytes went by: told a label and the total.
Transferring = Callable[[str, int], AbstractContextManager[Progress]]

_NAMES_SHOWN = 5


def unseen(label: str, total_bytes: int) -> AbstractContextManager[Progress]:
    """For callers that don't watch."""
    return nullcontext(ignore_progress)


@contextmanager
def ready_to_push(
    dataset: HubDataset, *, class_names: bool, transferring: Transferring = unseen
) -> Iterator[tuple[Path, list[str]]]:
    """One file with all rows for as long as it is needed, and in words what was changed in them.

    What was fetched stays in the hub's cache on this machine, so that a pull that was cut goes on there. Raises
    EigenwerkError.
    """
    rewritten = class_names and any(kind_of(file.path) == "parquet" for file in dataset.files)
    if rewritten:
        check_installed("pyarrow")
    with transferring(f"{dataset.name} from the hub", dataset.bytes) as progress:
        fetched = {
            file: fetch(dataset.repository, dataset.commit, file, progress) for file in dict.fromkeys(dataset.files)
        }
    with tempfile.TemporaryDirectory(prefix="eigenwerk-pull-") as folder:
        named: dict[str, tuple[str, ...]] = {}
        if rewritten:
            for number, (file, path) in enumerate(fetched.items()):
                target = Path(folder) / str(number) / file.file_name
                fetched[file], columns = with_class_names(path, target, dataset.class_names)
                named |= columns
        said = [_said(column, names) for column, names in named.items()]
        if class_names and dataset.class_names and not rewritten:
            said = [f"the card names the classes of {', '.join(dataset.class_names)}; only Parquet gets them"]
        with as_one(named_files(dataset, fetched), dataset.name) as whole:
            yield whole, said


def named_files(dataset: HubDataset, fetched: dict[HubFile, Path]) -> dict[str, Path]:
    """What each file is called among several: `split/name` where there are several parts, else its name."""
    found: dict[str, Path] = {}
    for split, files in dataset.splits.items():
        part = f"{split}/" if len(dataset.splits) > 1 else ""
        for at, file in enumerate(files):
            # Folders of the hub may hold files of the same name.
            names = chain([file.file_name], (f"{number}-{file.file_name}" for number in count(at)))
            found[next(part + name for name in names if part + name not in found)] = fetched[file]
    return found


def _said(column: str, names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN]) + (" …" if len(names) > _NAMES_SHOWN else "")
    return f"{column} holds the names of its {len(names)} classes ({shown}) and not their numbers"

"""`python -m storage.backups save|check|restore FOLDER`: one line of JSON; what it does meanwhile goes to stderr."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from jobspecs.file_errors import why_not
from storage.backups.archive import BackupError
from storage.backups.restoring import restorable, restore
from storage.backups.saving import save
from storage.objects import ObjectSettings, ObjectStore, ObjectStoreError
from storage.settings import Settings


def main() -> int:
    """0; 1 when it failed, or when the backup lacks objects that the store had lost."""
    parser = argparse.ArgumentParser(prog="python -m storage.backups", description="Save or restore a platform.")
    parser.add_argument("action", choices=("save", "check", "restore"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--programs", type=Path, help="a folder with pg_dump and pg_restore, preferred to the host's")
    parser.add_argument("--secrets", type=Path, help="a file that is put into the backup")
    parser.add_argument("--keep", type=int, help="remove all but so many backups, the newest, after this one")
    arguments = parser.parse_args()
    if arguments.keep is not None and arguments.keep < 1:
        parser.error("--keep must be 1 or more")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    if arguments.action == "check":
        return _check(arguments.folder)
    settings = Settings.from_environment()
    store = ObjectStore(ObjectSettings.of(settings))
    places = {"database_url": settings.database_url, "programs": arguments.programs}
    try:
        if arguments.action == "save":
            options = {"secrets": arguments.secrets, "keep": arguments.keep}
            backup, manifest = save(arguments.folder, store=store, **options, **places)
        else:
            backup, manifest = restore(arguments.folder, store=store, **places)
    except (BackupError, ObjectStoreError) as error:
        logging.error("error: %s", error)
        return 1
    except OSError as error:
        logging.error("error: %s can't be used: %s", error.filename or arguments.folder, why_not(error))
        return 1
    finally:
        store.close()
    result = {
        "backup": str(backup),
        "made_at": manifest.made_at.isoformat(),
        "revision": manifest.revision,
        "objects": len(manifest.objects),
        "bytes": sum({entry.sha256: entry.bytes for entry in manifest.objects}.values()) + manifest.dump_bytes,
        "damaged": manifest.damaged,
    }
    sys.stdout.write(f"{json.dumps(result)}\n")
    if manifest.damaged:
        logging.error(
            "error: the object store has lost or damaged %d objects, so they are in no backup: %s",
            len(manifest.damaged),
            ", ".join(manifest.damaged),
        )
        return 1
    return 0


def _check(folder: Path) -> int:
    """1 when the newest backup of the folder can't be restored by this version; needs no services."""
    try:
        backup, manifest = restorable(folder)
    except BackupError as error:
        logging.error("error: %s", error)
        return 1
    except OSError as error:
        logging.error("error: %s can't be read: %s", error.filename or folder, why_not(error))
        return 1
    sys.stdout.write(f"{json.dumps({'backup': str(backup), 'revision': manifest.revision})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

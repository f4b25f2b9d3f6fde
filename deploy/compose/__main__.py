"""`python3 -m deploy.compose`: makes the secrets of a platform in containers. Needs nothing but Python."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: Variables that compose.yaml can't do without. Hex stands in URLs as it is; 192 bits each.
GENERATED = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "TGI_KEY")
_SECRET_BYTES = 24


def write_secrets(folder: Path) -> Path:
    """Writes `.env` for compose, readable by its owner alone.

    Raises FileExistsError, and changes nothing, when there is one: the platform's volumes were made with it.
    """
    path = folder / ".env"
    lines = [f"{name}={secrets.token_hex(_SECRET_BYTES)}\n" for name in GENERATED]
    lines.append(f"EIGENWERK_SECRETS_KEY={secrets.token_urlsafe(32)}\n")
    lines.append(f"EIGENWERK_ADMIN_TOKEN=ew_{secrets.token_urlsafe(32)}\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    return path


def main() -> int:
    try:
        path = write_secrets(FOLDER)
    except FileExistsError as error:
        sys.stderr.write(f"error: {error.filename} is there already, and volumes may depend on it: keep it.\n")
        return 1
    sys.stdout.write(f"{path} is written; the administrator's token stands in it as EIGENWERK_ADMIN_TOKEN\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

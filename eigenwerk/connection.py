"""Where the platform is and how to be let in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eigenwerk.errors import EigenwerkError
from jobspecs.file_errors import why_not

#: Written by `eigenwerk up` while it runs.
PLATFORM_FILE = "platform.json"


@dataclass(frozen=True)
class Connection:
    """The platform's address and a bearer token. `repr` doesn't show the token."""

    url: str
    token: str | None = field(default=None, repr=False)


def default_home(environment: Mapping[str, str] | None = None) -> Path:
    """`$EIGENWERK_HOME`, else `~/.local/share/eigenwerk`: where `eigenwerk up` keeps everything."""
    values = os.environ if environment is None else environment
    chosen = values.get("EIGENWERK_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "eigenwerk"


def find_connection(environment: Mapping[str, str] | None = None) -> Connection:
    """`EIGENWERK_URL` and `EIGENWERK_TOKEN`; what isn't set comes from the platform that runs on this machine.

    A token on file belongs to the address beside it and is never sent to another one. One that is set but empty is
    refused: whoever lost a token must not become the administrator of this machine's platform. Raises EigenwerkError.
    """
    values = os.environ if environment is None else environment
    for name in ("EIGENWERK_URL", "EIGENWERK_TOKEN"):
        if not values.get(name, "unset").strip():
            raise EigenwerkError(f"{name} is set but empty. Give it a value, or unset it.")
    url, token = values.get("EIGENWERK_URL"), values.get("EIGENWERK_TOKEN")
    if url and token:
        return Connection(url.rstrip("/"), token)
    path = default_home(values) / PLATFORM_FILE
    local = read_platform_file(path)
    if local is None and url is None:
        raise EigenwerkError(
            f"No platform is known: {path} does not exist. Start one with `eigenwerk up`, or set EIGENWERK_URL and "
            "EIGENWERK_TOKEN."
        )
    if local is not None and url in (None, local.url):
        return Connection(local.url, token or local.token)
    raise EigenwerkError(f"EIGENWERK_URL is {url}, but there is no token for it. Set EIGENWERK_TOKEN.")


def read_platform_file(path: Path) -> Connection | None:
    """What `eigenwerk up` wrote; None when no platform runs there. Raises EigenwerkError when it can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Connection(str(content["url"]).rstrip("/"), str(content["token"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EigenwerkError(
            f"{path} can't be read: {why_not(error)}. It belongs to whoever ran `eigenwerk up`."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise EigenwerkError(f"{path} is damaged. Stop the platform and run `eigenwerk up` again.") from error

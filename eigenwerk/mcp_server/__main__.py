"""`python -m eigenwerk.mcp_server`, which `eigenwerk mcp` becomes: the only part that needs the protocol's library."""

from __future__ import annotations

import argparse
import os
import sys

from eigenwerk.client import connect
from eigenwerk.connection import find_connection
from eigenwerk.errors import EigenwerkError
from eigenwerk.mcp_server.http import serve_http
from eigenwerk.mcp_server.server import serve_stdio


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-port", type=int)
    parser.add_argument("--allow-writes", action="store_true")
    options = parser.parse_args()
    try:
        if options.http_port is not None:
            # Whoever asks brings a token: none is needed here.
            url = os.environ.get("EIGENWERK_URL") or find_connection().url
            serve_http(url, options.http_port, allow_writes=options.allow_writes)
        else:
            with connect() as client:
                serve_stdio(client, allow_writes=options.allow_writes)
    except EigenwerkError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

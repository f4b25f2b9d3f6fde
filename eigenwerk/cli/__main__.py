"""`python -m eigenwerk.cli`."""

from __future__ import annotations

from eigenwerk.cli.application import run

if __name__ == "__main__":
    run()

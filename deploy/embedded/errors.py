"""The one error of the embedded platform."""

from __future__ import annotations


class EmbeddedError(RuntimeError):
    """The embedded platform cannot run here; the message says why and what to do."""

"""How much memory serving takes."""

from __future__ import annotations

#: What an engine needs beside the weights.
SERVING_RUNTIME_BYTES = int(0.8 * 2**30)


def serving_memory_bytes(weights_bytes: int) -> int:
    """Main memory of one process that serves an encoder, in bytes: the weights, once more while they are loaded."""
    return 2 * weights_bytes + SERVING_RUNTIME_BYTES

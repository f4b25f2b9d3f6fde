"""Where an engine computes."""

from __future__ import annotations

import torch


def take_device(threads: int) -> torch.device:
    """The first visible GPU, else the CPU, with this process set to `threads` torch threads."""
    torch.set_num_threads(threads)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

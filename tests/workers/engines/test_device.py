from __future__ import annotations

import os
import subprocess
import sys

from workers.engines.embedded.engine import SET_VARIABLES

_BATCHES = """
import resource, threading
import torch
from workers.engines.embedded.device import take_device

def batch():
    for _ in range(4):
        first = torch.ones(4096, 1536)
        second = first + 1
        del first, second

def batches():
    for _ in range(4):
        batch()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(8):
        batch()
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

take_device(1)
thread = threading.Thread(target=batches)
thread.start()
thread.join()
"""


def test_an_encoders_batches_take_the_memory_of_those_before() -> None:
    environment = {**os.environ, **SET_VARIABLES}
    command = [sys.executable, "-c", _BATCHES]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    # Mapped anew each time they would be 393,216 pages of 4 KiB.
    assert int(done.stdout) < 40_000

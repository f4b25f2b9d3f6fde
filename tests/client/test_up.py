"""`eigenwerk up --json` passes signals on to the platform, which is a child of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

#: Counts how often it is asked to end, within half a second of the first time.
_PLATFORM = """
import signal, sys, time
count = 0
def asked(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, asked)
print("runs", flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.5)
print(count, flush=True)
"""
_UP = """
import sys
from pathlib import Path
from eigenwerk.cli.platform.commands import _run_and_announce
_run_and_announce(sys.argv[1:], Path())
"""


def test_one_ctrl_c_in_a_terminal_reaches_the_platform_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _UP, sys.executable, "-c", _PLATFORM]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == "runs\n"
        os.killpg(up.pid, signal.SIGINT)  # as a terminal does
        assert up.stdout.read() == "1\n"

"""Becomes another program that dies with its parent: `launch.py SIGNAL PARENT_PID UID GID PROGRAM [ARG ...]`.

Run by path with `python -I -S`. A program of its own and no `preexec_fn`, as Python code between fork and exec can
deadlock in a process with threads. UID and GID of -1 keep the caller's.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    death_signal, parent, uid, gid = (int(value) for value in arguments[:4])
    program = arguments[4:]
    libc = ctypes.CDLL(None, use_errno=True)
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which would clear it.
    if sys.platform == "linux" and libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent process ended before the start")
    os.umask(0o077)
    os.execve(program[0], program, os.environ)  # noqa: S606 - replacing this process is the purpose


if __name__ == "__main__":
    main(sys.argv[1:])

"""Waiting that ends early: for a signal, for another thread, or for a file descriptor."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Sequence
from types import FrameType


class Wakeup:
    """Ends the main thread's waiting. Signals only set a flag: no lock is ever taken inside a handler."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        #: A signal that asks for the end has come.
        self.stopping = False
        self._catching = False

    def catch_signals(self) -> None:
        """From now on SIGTERM and SIGINT set `stopping`. Call it from the main thread."""
        self._catching = True
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def close(self) -> None:
        """Frees the sockets; signals that come later still set `stopping`."""
        if self._catching:
            signal.set_wakeup_fd(-1)
        self._receiver.close()
        self._sender.close()

    def poke(self) -> None:
        """Ends the present or next `wait`; any thread may call it."""
        # A full buffer means that it is woken anyway.
        with contextlib.suppress(BlockingIOError):
            self._sender.send(b"\0")

    def wait(self, timeout_s: float, fds: Sequence[int] = ()) -> None:
        """Waits until poked, signalled or one of `fds` is readable, at most `timeout_s`."""
        own_fd = self._receiver.fileno()
        readable, _, _ = select.select([own_fd, *fds], [], [], timeout_s)
        if own_fd in readable:
            self._receiver.recv(4096)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

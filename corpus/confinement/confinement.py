"""Asks the zygote for a child, and waits for its answer, its end, or a reason to end it."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from pydantic_core import to_json

from corpus.confinement import process
from corpus.confinement.process import ANSWER_BYTES_MAX, Limits, Overran
from corpus.confinement.zygote import LENGTH, ORDER_BYTES_MAX, STATUS, Order
from jobspecs.problems import InvalidInput, Problem

log = logging.getLogger(__name__)

#: Seconds between two questions whether to stop.
_TICK_S = 0.1


class Stopped(Exception):
    """Whoever asked no longer waits, or the process ends."""


class ConfinementUnavailable(Exception):
    """No process could be started; the log says why."""


class Confinement:
    """One zygote and its children. Safe to share between threads; a zygote that died is started again."""

    def __init__(self, tasks: str) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Starts the zygote unless it runs; returns at once. Raises Stopped after `close`, ConfinementUnavailable."""
        with self._lock:
            if self._closed.is_set():
                raise Stopped
            if self._process is not None and self._process.poll() is None:
                return
            self._end()
            try:
                self._start()
            except OSError as error:
                log.error("no process can be started for foreign files: %s", error)
                raise ConfinementUnavailable(str(error)) from error

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = process.start(
                    "corpus.confinement.zygote",
                    *("--channel-fd", str(theirs.fileno()), "--tasks", self._tasks),
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                ours.close()
                raise
        self._channel = ours

    def close(self) -> None:
        """Ends the zygote and every child; whoever waits gets Stopped."""
        self._closed.set()
        with self._lock:
            self._end()

    def run(
        self,
        task: str,
        request: Mapping[str, Any],
        limits: Limits,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Any:
        """The task's result, as JSON has it. Blocks.

        Raises Overran, Stopped, ConfinementUnavailable, TaskFailed, and InvalidInput when the task does.
        """
        with ExitStack() as ours:
            with ExitStack() as theirs:
                answer, their_answer = _pair(ours, theirs)
                leash, their_leash = _pair(ours, theirs)
                self._order(Order(task, limits.cpu_s, limits.memory_bytes), [their_answer, their_leash])
            waiting = _Waiting(limits.wall_s, lambda: should_stop() or self._closed.is_set())
            content = _exchange(answer, to_json(request), waiting)
            status = _status(leash, waiting)
        if status is None and self._closed.is_set():
            raise Stopped
        return _result(content, status)

    def _order(self, order: Order, sockets: list[socket.socket]) -> None:
        """Asks once more when the zygote has died since the last time."""
        message = json.dumps(order.__dict__).encode()
        if len(message) > ORDER_BYTES_MAX:
            raise ValueError("the order is too long")
        for final in (False, True):
            self.start()
            channel = None
            try:
                with self._lock:
                    if self._closed.is_set():
                        raise Stopped
                    channel = self._channel
                    if channel is None:
                        raise BrokenPipeError("it has just ended")
                    socket.send_fds(channel, [message], [each.fileno() for each in sockets])
                return
            except OSError as error:
                if final:
                    raise ConfinementUnavailable(str(error)) from error
                log.warning("the process that reads foreign files has ended; it is started again: %s", error)
                with self._lock:
                    # Another thread that met the same end may have started the next one already.
                    if self._channel is channel:
                        self._end()

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            # It kills its children when the channel closes, and only then may it be killed itself.
            process.end(self._process, patience_s=1)
            self._process = None


def _pair(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    try:
        one, other = socket.socketpair()
    except OSError as error:
        raise ConfinementUnavailable(str(error)) from error
    return ours.enter_context(one), theirs.enter_context(other)


class _Waiting:
    """How long to wait for the next bytes."""

    def __init__(self, seconds: float, should_stop: Callable[[], bool]) -> None:
        self._deadline_s = time.monotonic() + seconds
        self._should_stop = should_stop

    def check(self) -> None:
        """Raises Stopped and Overran."""
        if self._should_stop():
            raise Stopped
        if time.monotonic() > self._deadline_s:
            raise Overran("time")


def _exchange(channel: socket.socket, request: bytes, waiting: _Waiting) -> bytes:
    """Sends the request and receives whatever comes until the other end is closed."""
    channel.settimeout(_TICK_S)
    # A child that died before it read everything has its status to tell of that.
    with suppress(BrokenPipeError, ConnectionResetError):
        unsent = memoryview(LENGTH.pack(len(request)) + request)
        while unsent:
            with suppress(TimeoutError):
                unsent = unsent[channel.send(unsent) :]
            waiting.check()
        received = bytearray()
        while True:
            try:
                block = channel.recv(1 << 20)
            except TimeoutError:
                waiting.check()
                continue
            if not block:
                return bytes(received)
            received += block
            if len(received) > ANSWER_BYTES_MAX:
                raise Overran("answer")
    return b""


def _status(leash: socket.socket, waiting: _Waiting) -> int | None:
    """The child's wait status; None when the zygote is gone."""
    leash.settimeout(_TICK_S)
    while True:
        with suppress(TimeoutError):
            content = leash.recv(STATUS.size)
            return int(STATUS.unpack(content)[0]) if content else None
        waiting.check()


def _result(content: bytes, status: int | None) -> Any:
    if status is None:
        raise ConfinementUnavailable("the process that reads foreign files has ended")
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        log.warning("a task ended with %d", code)
        raise process.why_ended(code)
    answer = json.loads(content)
    if "overran" in answer:
        raise Overran(answer["overran"])
    if "problems" in answer:
        raise InvalidInput([Problem.model_validate(problem) for problem in answer["problems"]])
    return answer["answer"]

"""The warm process: it has imported every task, and forks a child for each request.

It has one thread and computes nothing, so a fork is safe; it takes 10 ms, where a new interpreter with its imports
takes a second. Messages on the channel (SOCK_SEQPACKET): an Order as JSON, with two sockets. The child reads its
request from the first and writes its answer there. The second is a leash: when its other end is closed the child is
killed, and when the child has ended its wait status is sent there (4 bytes, little-endian).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import TypeAdapter, validate_call
from pydantic_core import to_json

from corpus.confinement import process
from jobspecs.problems import InvalidInput

Task = Callable[..., Any]
ORDER_BYTES_MAX = 4096
LENGTH = struct.Struct("<Q")
STATUS = struct.Struct("<i")
#: Below everything that answers people: several children may keep all cores busy.
_NICENESS = 10


@dataclass(frozen=True)
class Order:
    """Which task is to run, and what it may take: seconds of CPU, and bytes beyond what the zygote itself has."""

    task: str
    cpu_s: int
    memory_bytes: int


_ORDER = TypeAdapter(Order)


def load_tasks(place: str) -> Mapping[str, Task]:
    """The table `module:attribute`; arguments of each task are made from JSON by its annotations."""
    name, _, attribute = place.partition(":")
    declared: Mapping[str, Task] = getattr(importlib.import_module(name), attribute)
    return {task: validate_call(function) for task, function in declared.items()}


class Zygote:
    """Forks children on request, kills those whose leash is let go, and reports their ends."""

    def __init__(self, channel: socket.socket, tasks: Mapping[str, Task]) -> None:
        self._channel = channel
        self._tasks = tasks
        self._poll = select.epoll()
        #: Leash and process descriptor -> child.
        self._children: dict[int, _Child] = {}

    def serve(self) -> None:
        """Returns when the other side is gone; no child is left then."""
        self._poll.register(self._channel, select.EPOLLIN)
        try:
            while True:
                # Orders last: a descriptor that is closed now must not mean a new child in the same round.
                for descriptor, _ in sorted(self._poll.poll(), key=lambda event: event[0] == self._channel.fileno()):
                    child = self._children.get(descriptor)
                    if child is not None:
                        self._attend(child, descriptor)
                    elif descriptor == self._channel.fileno() and not self._take():
                        return
        finally:
            for child in set(self._children.values()):
                child.kill()

    def _take(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._channel, ORDER_BYTES_MAX, 2)
        if not message:
            return False
        answer, leash = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        order = _ORDER.validate_json(message)
        pid = os.fork()
        if pid == 0:
            self._become_child(order, answer)
        answer.close()
        child = _Child(pid, os.pidfd_open(pid), leash)
        for descriptor, events in ((leash.fileno(), select.EPOLLRDHUP), (child.pidfd, select.EPOLLIN)):
            self._children[descriptor] = child
            self._poll.register(descriptor, events)
        return True

    def _attend(self, child: _Child, descriptor: int) -> None:
        if descriptor != child.pidfd:
            child.kill()
            # It is told once; the child's end comes by itself.
            self._poll.unregister(descriptor)
            return
        _, status = os.waitpid(child.pid, 0)
        for watched in (child.leash.fileno(), child.pidfd):
            del self._children[watched]
            with suppress(FileNotFoundError):
                self._poll.unregister(watched)
        # Who has let go of the leash does not want to know.
        with suppress(OSError):
            child.leash.send(STATUS.pack(status))
        child.leash.close()
        os.close(child.pidfd)

    def _become_child(self, order: Order, answer: socket.socket) -> NoReturn:
        """Never returns: a child that fell back into the loop would serve as a second zygote."""
        status = 1
        try:
            place = os.dup2(answer.fileno(), 3)
            os.closerange(place + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            os.nice(_NICENESS)
            process.confine(order.cpu_s)
            process.narrow_memory(order.memory_bytes)
            _work(self._tasks[order.task], place)
            status = 0
        except MemoryError:
            status = process.OUT_OF_MEMORY
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)


@dataclass(frozen=True, eq=False)
class _Child:
    pid: int
    pidfd: int
    leash: socket.socket

    def kill(self) -> None:
        """Its number is its own until it has been waited for."""
        os.kill(self.pid, signal.SIGKILL)


def _work(task: Task, place: int) -> None:
    with socket.socket(fileno=place) as channel:
        with channel.makefile("rb") as stream:
            (length,) = LENGTH.unpack(stream.read(LENGTH.size))
            request = json.loads(stream.read(length))
        channel.sendall(_answer(task, request))


def _answer(task: Task, request: dict[str, Any]) -> bytes:
    try:
        return to_json({"answer": task(**request)}, bytes_mode="base64")
    except InvalidInput as error:
        return to_json({"problems": error.problems})
    except MemoryError:
        return b'{"overran": "memory"}'


def main() -> None:
    parser = argparse.ArgumentParser(description="Forks children that read foreign bytes. Started by the API.")
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--tasks", required=True)
    arguments = parser.parse_args()
    # What Ctrl-C or a service manager sends to the whole group is for the process that asked.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=arguments.channel_fd)
    channel.set_inheritable(False)
    tasks = load_tasks(arguments.tasks)
    gc.collect()
    # What was imported is never collected again, so children don't copy its pages by touching reference counts.
    gc.freeze()
    Zygote(channel, tasks).serve()


if __name__ == "__main__":
    main()

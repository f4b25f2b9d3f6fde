"""The zygote: a process that has imported everything a runner needs and forks a child per job.

Importing torch and transformers takes ten seconds; a fork takes 35 ms. The zygote has one thread, touches no GPU and
computes nothing, so a fork is safe. It dies with the worker, and its children die with it.

Messages on the socket (SOCK_SEQPACKET, JSON): in `{"start": id, "task": path}` with two descriptors, the event pipe
and the log pipe; out `{"ready": pid}`, `{"started": id, "pid": pid}`, `{"exited": id, "status": wait status}`.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.daemon.process_control import die_with_parent, signal_group
from workers.process import child
from workers.process.child_task import EXIT_FAILED, ChildTask

MESSAGE_BYTES_MAX = 65_536


def load_runners(place: str) -> Mapping[str, child.Runner]:
    """Imports `module:attribute`, and what the module's PRELOAD names."""
    name, _, attribute = place.partition(":")
    module = importlib.import_module(name)
    for preload in getattr(module, "PRELOAD", ()):
        importlib.import_module(preload)
    runners: Mapping[str, child.Runner] = getattr(module, attribute)
    return runners


class Zygote:
    """Forks children on request and reports their ends."""

    def __init__(self, channel: socket.socket, runners: Mapping[str, child.Runner]) -> None:
        self._channel = channel
        self._runners = runners
        self._start_ids: dict[int, str] = {}

    def serve(self) -> None:
        """Returns when the worker has closed the socket."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # Inherited by children: a request to stop that comes early is kept, not lost.
        signal.signal(signal.SIGUSR1, child.STOP.handle)
        self._send({"ready": os.getpid()})
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._channel:
                        message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES_MAX, 2)
                        if not message:
                            return
                        self._start(json.loads(message), descriptors)
                    else:
                        os.read(wake_read, 4096)
                        self._reap()

    def _send(self, message: dict[str, Any]) -> None:
        self._channel.send(json.dumps(message).encode())

    def _start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        group_read, group_write = os.pipe()
        zygote_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(zygote_pid, request, descriptors, group_write)
        os.close(group_write)
        for descriptor in descriptors:
            os.close(descriptor)
        # The worker signals the child's group, so the group must exist before the worker learns the number.
        os.read(group_read, 1)
        os.close(group_read)
        self._start_ids[pid] = request["start"]
        self._send({"started": request["start"], "pid": pid})

    def _become_child(self, zygote_pid: int, request: dict[str, Any], descriptors: list[int], group_write: int) -> None:
        """Never returns: a child that fell back into the zygote's loop would serve as a second zygote."""
        status = EXIT_FAILED
        try:
            os.setsid()
            os.write(group_write, b"1")
            event_fd, log_fd = descriptors
            child.enter(zygote_pid, event_fd, log_fd)
            task = ChildTask.model_validate_json(Path(request["task"]).read_bytes())
            status = child.run(task, self._runners, 3)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._start_ids:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if ended is None:
                return
            # While the child is a zombie its number can't be given to another process: end what it left behind.
            signal_group(ended.si_pid, signal.SIGKILL)
            _, status = os.waitpid(ended.si_pid, 0)
            start_id = self._start_ids.pop(ended.si_pid, None)
            if start_id is not None:
                self._send({"exited": start_id, "status": status})


def main() -> None:
    parser = argparse.ArgumentParser(description="Forks the children of a worker. Started by the worker.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--runners", required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    channel = socket.socket(fileno=arguments.socket_fd)
    channel.set_inheritable(False)
    runners = load_runners(arguments.runners)
    gc.collect()
    # What was imported is never collected again, so children don't copy its pages by touching reference counts.
    gc.freeze()
    Zygote(channel, runners).serve()


if __name__ == "__main__":
    main()

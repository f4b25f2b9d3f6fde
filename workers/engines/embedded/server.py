"""The process of the embedded engine: `python -m workers.engines.embedded.server PARENT_PID`, started by the worker.

It imports everything, reads its order from stdin (one JSON line), checks the model's files, loads them, serves on
loopback, and says how it goes in JSON lines on stdout. It ends when stdin closes, at SIGTERM, or with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import uvicorn

# Imported on first use otherwise, in a quarter of a second: most classifiers are of this architecture.
from transformers.models.bert import modeling_bert, tokenization_bert  # noqa: F401

from jobspecs.lifecycle import Reason
from storage.settings import LOG_FORMAT
from workers.daemon.process_control import die_with_parent
from workers.engines.embedded.adapter_orders import AdapterOrders
from workers.engines.embedded.app import STUCK_S, create_app
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.embedded.tasks.served import ServedModel
from workers.engines.interface import EngineOrder, ServedAdapter, Tokens
from workers.engines.verification import check_files
from workers.run.context import RunFailed
from workers.run.failures import reason_of

log = logging.getLogger(__name__)

#: Exit codes, from sysexits.h.
EXIT_CANT_SERVE = 65
EXIT_HUNG = 70
#: Longer than any client keeps an idle connection, so that it is the client who closes it.
KEEP_ALIVE_S = 75
#: Seconds between two looks at the inference thread: whether it hangs, and how many tokens it has seen.
WATCH_S = 5.0


class Status:
    """Says where the process is. stdout is kept for this alone: what libraries print goes to the log."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._said = Tokens()

    def say(self, **status: str | int) -> None:
        self._stream.write(json.dumps(status).encode() + b"\n")

    def say_tokens(self, tokens: Tokens) -> None:
        """Says how many they are by now, if they have become more."""
        if tokens != self._said:
            self._said = tokens
            # Nobody may be there to read it any more: then the process ends anyway.
            with contextlib.suppress(BrokenPipeError):
                self.say(state="served", prompt_tokens=tokens.prompt, generated_tokens=tokens.generated)


class Server(uvicorn.Server):
    """Says at its end what has gone through the model: behind `serve` SIGTERM ends the process at once."""

    def __init__(self, config: uvicorn.Config, served: ServedModel, status: Status) -> None:
        super().__init__(config)
        self._served, self._status = served, status

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._status.say_tokens(self._served.tokens())


def read_order(stream: BinaryIO) -> EngineOrder | None:
    """Waits for the order; None when the parent has closed the pipe without one."""
    line = stream.readline()
    if not line:
        return None
    fields: dict[str, Any] = json.loads(line)
    base_dir = Path(fields["base_dir"]) if fields.get("base_dir") else None
    gpu_ids = tuple(fields.get("gpu_ids", ()))
    adapters = tuple(ServedAdapter(**{**one, "folder": Path(one["folder"])}) for one in fields.get("adapters", ()))
    read = {"model_dir": Path(fields["model_dir"]), "base_dir": base_dir, "gpu_ids": gpu_ids, "adapters": adapters}
    return EngineOrder(**{**fields, **read})


def load(order: EngineOrder) -> ServedModel:
    """Checks, then loads. Raises RunFailed(corrupt_artifact), or whatever the libraries raise."""
    if order.task not in LOADERS:
        raise RunFailed(
            Reason.unsatisfiable,
            f"This engine does not serve the task {order.task}. It serves: {', '.join(sorted(LOADERS))}.",
        )
    check_files(order.model_dir, order.digest)
    if order.base_dir is not None and order.base_digest is not None:
        check_files(order.base_dir, order.base_digest)
    return LOADERS[order.task](order)


async def serve(order: EngineOrder, served: ServedModel, status: Status) -> int:
    """Serves until it is told to end; returns the exit code."""
    app = create_app(order.model, order.digest, served, order.key)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(order.drain_s),
    )
    server = Server(config, served, status)
    orders = AdapterOrders(served, status.say, order.drain_s)
    follow_stdin(orders.take, lambda: setattr(server, "should_exit", True))
    hung = asyncio.create_task(watch(served, status))
    serving = asyncio.create_task(server.serve(sockets=[listening_socket(order.port)]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    status.say(state="ready")
    await asyncio.wait({hung, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        return EXIT_HUNG
    hung.cancel()
    await serving
    return 0


def listening_socket(port: int) -> socket.socket:
    """A socket on loopback that shares its port with the other replicas."""
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it an answer takes 40 ms longer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def follow_stdin(take: Callable[[bytes], None], end: Callable[[], None]) -> None:
    """Gives each line to `take`. The parent keeps the pipe open as long as it lives: once it is closed, calls `end`."""
    loop, unread = asyncio.get_running_loop(), b""

    def look() -> None:
        nonlocal unread
        if not (piece := os.read(0, 65536)):
            loop.remove_reader(0)
            end()
        *lines, unread = (unread + piece).split(b"\n")
        for line in lines:
            take(line)

    loop.add_reader(0, look)


async def watch(served: ServedModel, status: Status) -> None:
    """Returns once the inference thread is dead or hangs; says on the way how many tokens it has seen."""
    while served.stuck_s() < STUCK_S:
        status.say_tokens(served.tokens())
        await asyncio.sleep(WATCH_S)
    log.error("the inference thread is dead or has not answered for %.0f s", STUCK_S)


def main(parent_pid: int) -> int:
    """Runs the process; returns its exit code."""
    die_with_parent(parent_pid)
    status = Status()
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    order = read_order(sys.stdin.buffer)
    if order is None:
        return 0
    # CUDA reads it when it is first used, which nothing has done yet.
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(order.gpu_ids)
    try:
        served = load(order)
    except Exception as error:
        log.exception("the model can't be loaded")
        reason, message = reason_of(error)
        # Anything unforeseen may be the machine's doing: the parent then tries again a few times.
        if reason is not Reason.internal_error:
            status.say(state="failed", reason=reason.value, message=message)
        return EXIT_CANT_SERVE
    code = asyncio.run(serve(order, served, status))
    if code:
        # A hung inference thread would keep an ordinary exit waiting.
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

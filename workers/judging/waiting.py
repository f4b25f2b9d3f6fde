"""Waits for computations of libraries that can't be asked to stop, and stops waiting when it should."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from corpus.bootstrap import Between

Result = TypeVar("Result")

#: Seconds between two calls of `between`.
_LOOK_S = 0.2


def waited_for(compute: Callable[[], Result], between: Between) -> Result:
    """What `compute` gives or raises. `between` is called all the time meanwhile, and may raise to stop the waiting.

    The computation then goes on in its thread until the process ends, as a job's child does at once: liblinear has no
    way to be stopped, and a fit cut into parts would not give the same model.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(compute())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="waited-for", daemon=True).start()
    while not wait([future], _LOOK_S).done:
        between()
    return future.result()

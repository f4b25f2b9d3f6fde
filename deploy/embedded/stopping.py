"""How the platform ends: answers in hand and jobs get their time, unless somebody asks a second time."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.processes import ManagedProcess, Server

logger = logging.getLogger(__name__)

#: Seconds that answers in hand get (EIGENWERK_DRAIN_S); the processes that give them are told the same.
DRAIN_S = 120.0
DRAIN_VARIABLE = "EIGENWERK_DRAIN_S"
#: Seconds that each process gets beside: longer than a job's child is given.
GRACE_S = 25.0
#: The processes that finish their answers.
_ANSWERING = ("api", "inference")


class StopRequested(BaseException):
    """Somebody asked the platform to end."""


@dataclass
class StopSignals:
    """A signal handler: the first signal asks for a stop in good order, the second one for a stop at once."""

    #: What the first stop may take, for people.
    patience: str = ""
    at_once: threading.Event = field(default_factory=threading.Event)
    _asked: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Only the first one interrupts: one that interrupted the stopping would leave something running.
        if not self._asked:
            self._asked = True
            logger.info("stopping%s", self.patience)
            raise StopRequested
        if not self.at_once.is_set():
            self.at_once.set()
            logger.info("stopping at once: answers in hand are cut off, and jobs go on from their last checkpoints")


def drain_s(settings: Mapping[str, str]) -> float:
    """Seconds that answers in hand get. Raises EmbeddedError, with the variable's name, for what is no such number."""
    text = settings.get(DRAIN_VARIABLE)
    try:
        number = DRAIN_S if text is None else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise EmbeddedError(f"{DRAIN_VARIABLE}={text} is no number of seconds; correct the variable, or unset it.")
    return number


def stop_all(processes: Sequence[Server | ManagedProcess], *, drain_s: float, at_once: threading.Event) -> None:
    """Ends them in the reverse order of their start; what still runs once `at_once` is set is killed."""
    for process in reversed(processes):
        logger.info("stopping %s", process.name)
        managed = process.process if isinstance(process, Server) else process
        managed.stop(GRACE_S + (drain_s if process.name in _ANSWERING else 0.0), at_once)

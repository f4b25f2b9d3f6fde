"""What a scheme is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedModel

from jobspecs.kinds.quantize import Quantize
from jobspecs.lifecycle import Reason
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed


@dataclass(frozen=True)
class Order:
    """One quantization."""

    spec: Quantize
    #: The model in fp32 (safetensors), adapters merged.
    folder: Path
    #: Token ids of the calibration texts, each (T,) and T at most `calibration.length`; empty for schemes without.
    calibration: tuple[Int64s, ...]
    #: Empty; the model's files go here.
    output: Path
    #: Called between parts of the work; may raise to stop it.
    between: Callable[[], None]


@dataclass(frozen=True)
class Written:
    """What a scheme wrote. `bits`: of all weights on disk together, scales and zero points included."""

    bits: int
    #: How many weights there are: of the model, tied ones once.
    weights: int
    #: How tensors are stored -> how many are.
    stored_as: dict[str, int]
    #: For the report and the card.
    notes: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def bits_per_weight(self) -> float:
        return self.bits / self.weights


@dataclass(frozen=True)
class Scheme:
    """A family of schemes. `write` raises RunFailed for what it can't do; `load` reads what it wrote, in fp32."""

    write: Callable[[Order], Written]
    load: Callable[[Path], PreTrainedModel]
    #: Modules that it needs beside those of every worker.
    modules: tuple[str, ...] = ()


def check_installed(family: str, scheme: Scheme) -> None:
    """Raises RunFailed(unsatisfiable) where a library is missing."""
    missing = [name for name in scheme.modules if find_spec(name) is None]
    if missing:
        raise RunFailed(
            Reason.unsatisfiable,
            f"{family} needs {' and '.join(missing)}, which this worker does not have. Install them there: "
            "pip install 'eigenwerk[quantize]'",
        )

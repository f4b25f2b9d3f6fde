"""Sections that all kinds share which train: how rows are held out, and how the optimizer goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobspecs.kinds.base import Section


class Validation(Section):
    """The held-out split. The same rows score the trained model and the baselines."""

    fraction: float = Field(default=0.25, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, lt=2**32)


class Optimization(Section):
    """AdamW and its learning rate over time. A kind changes the defaults and adds what is its own."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = 2
    batch_size: int = Field(default=32, ge=1, le=65536)
    learning_rate: float = Field(default=2.0e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    warmup_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share of all steps with a rising learning rate"
    )
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float = Field(default=1.0, gt=0)
    seed: int = Field(default=42, ge=0, lt=2**32)
    checkpoint_every_steps: int | None = Field(default=None, ge=1, description="about one a minute when absent")

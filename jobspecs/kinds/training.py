"""Sections that all kinds share which train: how rows are held out, and how the optimizer goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobspecs.kinds.base import Section


class Validation(Section):
    """The held-out split. The same rows score the trained model and the baselines."""

    fraction: float = Field(default=0.25, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, lt=2**32)


#: `epochs: auto`: passes over the rows that train, at most; on few rows as many as give so many steps, up to a limit.
AUTO_EPOCHS, AUTO_STEPS_MIN, AUTO_EPOCHS_MAX = 4, 300, 40

Passes = Annotated[float, Field(gt=0, le=1000)]


class Optimization(Section):
    """AdamW and its learning rate over time. A kind changes the defaults and adds what is its own."""

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


class EncoderTraining(Optimization):
    """What all kinds share that train encoders."""

    epochs: Literal["auto"] | Passes = Field(
        default="auto",
        description=f"passes over the rows that train. auto: at most {AUTO_EPOCHS}, or {AUTO_STEPS_MIN} steps on few "
        "rows; ends earlier when rows set aside get no better, with the weights that were best",
    )
    max_length: int = Field(default=256, ge=8, le=8192, description="tokens per text; longer texts are cut")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="the base model's own when absent")
    freeze_embeddings: bool = Field(default=False, description="keep the token embeddings of the base model: faster")

    def epochs_of(self, rows: float) -> float:
        """Passes over so many rows that train; with `auto` the most of them."""
        if self.epochs != "auto":
            return self.epochs
        steps_per_epoch = max(1, -(-int(rows) // self.batch_size))
        return max(AUTO_EPOCHS, min(AUTO_EPOCHS_MAX, AUTO_STEPS_MIN / steps_per_epoch))

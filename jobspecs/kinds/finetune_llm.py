"""`finetune-llm`: teach a causal language model conversations, preferences or plain text."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from jobspecs.kinds.base import Section
from jobspecs.kinds.training import Optimization, Passes, TrainingSpec, Validation
from jobspecs.problems import Problem
from jobspecs.profile import DatasetProfile
from jobspecs.references import DatasetReference, ModelReference

Objective = Literal["sft", "dpo", "orpo", "kto", "pretrain"]
Tuning = Literal["full", "lora", "qlora"]
#: How a data set's rows say who speaks. `auto` looks at the columns and the first rows.
ChatFormat = Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "transcripts", "text"]
#: Rows that a data set needs: one to train on and one to judge with.
ROWS_MIN = 2
#: Tokens of a forward pass unless the spec says otherwise.
MICRO_BATCH_TOKENS = 4096
#: Learning rates of full tuning where the spec names none: the defaults of trl 1.16's SFTConfig, DPOConfig, KTOConfig
#: and ORPOConfig.
FULL_LEARNING_RATES: Mapping[Objective, float] = MappingProxyType(
    {"sft": 2e-5, "pretrain": 2e-5, "dpo": 1e-6, "kto": 1e-6, "orpo": 1e-6}
)
#: An adapter wants ten times as much, by trl's guide to peft and J. Schulman et al., LoRA Without Regret (2025).
ADAPTER_FACTOR = 10
#: Optimizers that exist as CUDA kernels only.
_GPU_OPTIMIZERS = frozenset({"adamw_8bit", "paged_adamw_8bit"})


class ChatData(Section):
    """How to read the rows. The model's own chat template renders them; a spec can't bring one of its own.

    `prompt`, `completion`, `text` and `system` are texts with {column} placeholders; "{{" and "}}" are literal braces.
    """

    format: ChatFormat = "auto"
    prompt: str | None = Field(
        default=None, min_length=1, max_length=20_000, description='such as "Write an abstract with the title {title}"'
    )
    completion: str | None = Field(
        default=None, min_length=1, max_length=20_000, description="the answer that is learnt, such as {abstract}"
    )
    system: str | None = Field(
        default=None, min_length=1, max_length=20_000, description="system prompt of conversations without their own"
    )
    text: str | None = Field(default=None, min_length=1, max_length=20_000, description="plain text, such as {body}")
    bad_rows: Literal["refuse", "skip"] = Field(
        default="refuse", description="rows that are no example: refuse the job, or leave them out and say so"
    )
    merge_turns: bool = Field(
        default=False, description="join turns of one role that follow each other, with a blank line between"
    )
    control_tokens: Literal["text", "keep", "refuse"] = Field(
        default="text",
        description="control tokens such as <|im_end|> within the data: read as the letters of which they are written, "
        "kept as the tokens that end and begin turns, or a reason to refuse the job",
    )
    unanswered: Literal["refuse", "drop"] = Field(
        default="refuse", description="turns behind the last answer: refuse the row, or leave these turns out"
    )

    def columns(self) -> dict[str, str]:
        """Column -> field of this section that names it. Raises ValueError for a broken template."""
        templates = {"prompt": self.prompt, "completion": self.completion, "system": self.system, "text": self.text}
        return {
            column: field
            for field, template in templates.items()
            for _, column, _, _ in Formatter().parse(template or "")
            if column
        }


class Lora(Section):
    """The adapter (LoRA, arXiv:2106.09685). Ignored with `tuning: full`."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32, gt=0, le=8192, description="the update is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["auto"] | Annotated[list[str], Field(min_length=1, max_length=64)] = Field(
        default="auto", description="names of the layers to adapt; auto: every linear layer but the LM head"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(rank) instead (arXiv:2312.03732)")
    dora: bool = Field(default=False, description="train magnitude and direction apart (arXiv:2402.09353)")
    modules_to_save: list[str] = Field(
        default_factory=list, max_length=16, description="layers to train whole beside the adapter, such as lm_head"
    )


class EarlyStopping(Section):
    """Stops when the held-out loss no longer falls."""

    every_steps: int = Field(default=50, ge=1, description="optimizer steps between two measurements")
    patience: int = Field(default=3, ge=1, le=1000, description="measurements in a row without a better one")


def default_learning_rate(objective: Objective, tuning: Tuning) -> float:
    """What a spec without a learning rate gets."""
    rate = FULL_LEARNING_RATES[objective]
    return rate if tuning == "full" else float(f"{rate * ADAPTER_FACTOR:.3g}")


def _rates_in_words() -> str:
    rates = (
        f"{default_learning_rate(objective, 'full'):g} for {objective} with full tuning, "
        f"{default_learning_rate(objective, 'lora'):g} with an adapter"
        for objective in FULL_LEARNING_RATES
    )
    return f"when absent: {'; '.join(rates)}"


def _drop_default(schema: dict[str, Any]) -> None:
    """It depends on other fields, which a JSON schema can say in words only."""
    schema.pop("default")


class LlmTraining(Optimization):
    """Hyperparameters. `batch_size` rows make an optimizer step; cutting them into micro-batches changes no result."""

    epochs: Passes = 1
    batch_size: int = Field(default=16, ge=1, le=65536, description="rows per optimizer step")
    learning_rate: float = Field(
        default=default_learning_rate("sft", "lora"),
        gt=0,
        description=_rates_in_words(),
        json_schema_extra=_drop_default,
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    warmup_fraction: float = Field(default=0.03, ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    max_length: int = Field(default=1024, ge=8, le=1_048_576, description="tokens per row; longer ones are cut")
    micro_batch_tokens: int | None = Field(
        default=None, ge=8, description="tokens per forward pass; 4,096 when neither this nor micro_batch_size is given"
    )
    micro_batch_size: int | None = Field(default=None, ge=1, le=4096, description="rows per forward pass instead")
    packing: bool = Field(
        default=True,
        description="put rows end to end without padding; no row sees another. False pads each micro-batch",
    )
    loss_on: Literal["assistant", "all"] = Field(
        default="assistant", description="learn what the assistant says, or every token"
    )
    neftune_alpha: float | None = Field(
        default=None, gt=0, le=100, description="noise on embeddings (arXiv:2310.05914)"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="dpo only: the share of preferences that may be wrong"
    )
    beta: float = Field(default=0.1, gt=0, le=100, description="dpo, kto: how strongly the reference model holds")
    orpo_lambda: float = Field(default=0.1, gt=0, le=100, description="orpo: weight of the preference term")
    gradient_checkpointing: bool = Field(default=False, description="compute activations twice to save memory")
    early_stopping: EarlyStopping | None = None
    keep_best: bool = Field(
        default=False, description="end with the weights of the lowest held-out loss, measured as early_stopping says"
    )
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    liger: Literal["auto", "off"] = Field(default="auto", description="Liger kernels, on GPUs that have them installed")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on GPUs, fp32 on CPUs")
    distributed: Literal["none", "ddp", "fsdp", "zero2", "zero3"] = Field(
        default="none",
        description="how the GPUs of resources.gpus train one model: each a copy (ddp), or a share of weights, "
        "gradients and optimizer (fsdp, zero3) or of gradients and optimizer (zero2)",
    )

    @property
    def looks(self) -> bool:
        """Whether held-out rows are looked at while it trains."""
        return self.early_stopping is not None or self.keep_best

    @property
    def choosing_decides(self) -> Literal["end", "weights"] | None:
        return "weights" if self.looks else None

    @property
    def tokens_per_micro_batch(self) -> int:
        """Tokens of a forward pass, where rows don't decide."""
        return self.micro_batch_tokens or MICRO_BATCH_TOKENS

    @model_validator(mode="after")
    def _one_size_of_micro_batch(self) -> Self:
        if self.micro_batch_tokens is not None and self.micro_batch_size is not None:
            raise ValueError("give micro_batch_tokens or micro_batch_size, not both")
        return self


class Generation(Section):
    """Answers of the base model and the result to held-out prompts, side by side, in the report."""

    examples: int = Field(default=3, ge=0, le=50)
    max_new_tokens: int = Field(default=64, ge=1, le=4096)


class LlmValidation(Validation):
    """The held-out rows. Judging an LLM is costly, so fewer than for other kinds."""

    fraction: float = Field(default=0.1, ge=0, lt=1)
    rows_max: int = Field(default=500, ge=1, description="held-out rows at most; the others are trained on")


class FinetuneLlm(TrainingSpec):
    """Trains `model` on the conversations, preferences or texts of `dataset`."""

    kind: Literal["finetune-llm"]
    model: ModelReference = Field(description="a causal language model, or an adapter that finetune-llm made")
    dataset: DatasetReference
    objective: Objective = "sft"
    tuning: Tuning = "lora"
    data: ChatData = ChatData()
    rows: int | None = Field(default=None, ge=ROWS_MIN, description="use a sample of this many rows")
    lora: Lora = Lora()
    validation: LlmValidation = LlmValidation()
    training: LlmTraining = LlmTraining()
    output: Literal["adapter", "merged", "both"] | None = Field(
        default=None, description="adapter unless tuning is full, which has none"
    )
    generation: Generation = Generation()

    def default_learning_rate(self) -> float | None:
        return default_learning_rate(self.objective, self.tuning)

    def training_in_words(self) -> str:
        return f"{self.objective} with {'full tuning' if self.tuning == 'full' else self.tuning}"

    @property
    def saved_as(self) -> Literal["adapter", "merged", "both"]:
        """What the job registers."""
        return self.output or ("merged" if self.tuning == "full" else "adapter")

    @model_validator(mode="before")
    @classmethod
    def _learning_rate_of_objective(cls, document: Any) -> Any:
        """Writes the default into the spec, so that job and card tell what was used."""
        if not isinstance(document, dict):
            return document
        objective, tuning = document.get("objective", "sft"), document.get("tuning", "lora")
        training = document.get("training", {})
        if objective not in get_args(Objective) or tuning not in get_args(Tuning) or not isinstance(training, dict):
            return document
        return {**document, "training": {"learning_rate": default_learning_rate(objective, tuning), **training}}

    @field_validator("data")
    @classmethod
    def _templates_can_be_read(cls, value: ChatData) -> ChatData:
        try:
            value.columns()
        except ValueError as error:
            raise ValueError(f"a template can't be read ({error}); write {{{{ and }}}} for literal braces") from error
        return value

    @model_validator(mode="after")
    def _looks_at_rows(self) -> Self:
        if self.training.looks and not self.validation.given and self.validation.fraction == 0:
            raise ValueError(
                "early_stopping and keep_best look at rows of validation: say which, or how large a fraction"
            )
        return self

    @model_validator(mode="after")
    def _full_tuning_has_no_adapter(self) -> Self:
        if self.tuning == "full" and self.output in ("adapter", "both"):
            raise ValueError("output: full tuning makes no adapter; leave output out or choose tuning lora or qlora")
        return self

    def read_columns(self) -> list[tuple[str, str]]:
        return [(f"data.{field}", column) for column, field in self.data.columns().items()]

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        problems = self.absent_columns(profile)
        if profile.rows < ROWS_MIN:
            problems.append(
                Problem(
                    field="dataset",
                    message=f"the data set has {profile.rows} rows; {ROWS_MIN} are needed, to train and to judge.",
                    remedy="Push more rows.",
                )
            )
        return [*problems, *self.problems_of_resources()]

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        """Sequences of a micro-batch, and tokens of each at most."""
        training = self.training
        rows = training.micro_batch_size or max(1, training.tokens_per_micro_batch // training.max_length)
        return min(rows, training.batch_size), training.max_length

    @property
    def processes(self) -> int:
        """One per GPU."""
        return 1 if self.training.distributed == "none" else max(1, self.resources.gpus)

    def problems_of_resources(self) -> list[Problem]:
        """What needs GPUs that the job does not ask for, or several without a word on how to use them."""
        gpus, training = self.resources.gpus, self.training
        problems = self._problems_of_distribution()
        if gpus == 0 and training.optimizer in _GPU_OPTIMIZERS:
            problems.append(_needs_gpu("training.optimizer", training.optimizer, "adamw"))
        if gpus == 0 and training.attention == "flash":
            problems.append(_needs_gpu("training.attention", "flash", "auto"))
        if gpus == 0 and training.precision == "bf16":
            problems.append(_needs_gpu("training.precision", "bf16", "auto"))
        return problems

    def _problems_of_distribution(self) -> list[Problem]:
        gpus, mode = self.resources.gpus, self.training.distributed
        if mode == "none":
            if gpus <= 1:
                return []
            return [
                Problem(
                    field="training.distributed",
                    message=f"the job asks for {gpus} GPUs and does not say how to train on them together.",
                    remedy="Write distributed: ddp, or fsdp for a model that is too large for one GPU.",
                )
            ]
        problems = []
        if gpus <= 1:
            problems.append(
                Problem(
                    field="resources.gpus",
                    message=f"distributed: {mode} takes two GPUs or more; the job asks for {gpus}.",
                    remedy="Ask for more GPUs, or leave training.distributed out.",
                )
            )
        if mode != "ddp" and self.tuning == "qlora":
            problems.append(
                Problem(
                    field="training.distributed",
                    message=f"{mode} can't share out weights of 4 bits (tuning: qlora).",
                    remedy="Write distributed: ddp, or tuning: lora.",
                )
            )
        if mode in ("zero2", "zero3") and self.training.keep_best:
            problems.append(
                Problem(
                    field="training.keep_best",
                    message=f"the weights of an earlier step can't be put back into {mode}.",
                    remedy="Leave keep_best out, or write distributed: fsdp.",
                )
            )
        if mode != "ddp" and self.training.optimizer in _GPU_OPTIMIZERS:
            problems.append(
                Problem(
                    field="training.optimizer",
                    message=f"{self.training.optimizer} can't be shared out by {mode}.",
                    remedy="Write optimizer: adamw, or distributed: ddp.",
                )
            )
        return problems


def _needs_gpu(field: str, value: str, instead: str) -> Problem:
    return Problem(
        field=field,
        message=f"{value} works on GPUs only, and this job asks for none.",
        remedy=f"Write {field.rpartition('.')[2]}: {instead}, or ask for a GPU in resources.",
    )

"""The shapes of fine-tuning jobs, as OpenAI has them. Times are seconds since 1970."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobspecs.deploying import Deploying

Auto = Literal["auto"]
Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
#: 16 texts of up to 512 characters, by names of up to 64.
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
#: What is not ours to do, with what to do instead.
_UNSERVED = {"reinforcement": "it needs a grader; train on preferences instead: type dpo"}


class Hyperparameters(BaseModel):
    """`auto` is what a job spec without the field gets."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    n_epochs: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=65536)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = Field(
        default="auto", description="times the learning rate that a job spec without one gets"
    )


class DpoHyperparameters(Hyperparameters):
    beta: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"


class Supervised(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hyperparameters: Hyperparameters = Hyperparameters()


class Dpo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class Method(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None

    @model_validator(mode="before")
    @classmethod
    def _served(cls, document: Any) -> Any:
        kind = document.get("type") if isinstance(document, dict) else None
        if isinstance(kind, str) and kind in _UNSERVED:
            raise ValueError(f"the method {kind} is not served: {_UNSERVED[kind]}")
        return document

    @model_validator(mode="after")
    def _of_its_type(self) -> Method:
        if (self.dpo if self.type == "supervised" else self.supervised) is not None:
            raise ValueError(f"the method is {self.type}: leave the other one's hyperparameters out")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        chosen = self.supervised if self.type == "supervised" else self.dpo
        return chosen.hyperparameters if chosen is not None else Hyperparameters()


class FineTuningRequest(BaseModel):
    """What isn't OpenAI's is a field of the job spec `finetune-llm`: tuning, lora, training, validation, resources …"""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, max_length=300, description="a language model: name, owner/name@2, hub:org/name")
    training_file: str = Field(max_length=100, description="file-…")
    validation_file: str | None = Field(default=None, max_length=100, description="its rows judge, and do not train")
    suffix: str | None = Field(default=None, min_length=1, max_length=64, description="of the fine-tuned model's name")
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    metadata: Metadata | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = Field(
        default=None, description="the older way to write method.supervised"
    )
    integrations: Annotated[list[Any], Field(max_length=0)] | None = Field(default=None, description="none are served")
    deploy_on_first_use: bool | Deploying = Field(
        default=False, description="the first request that names the model deploys it: true, or how it is to be served"
    )

    @model_validator(mode="after")
    def _said_once(self) -> FineTuningRequest:
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters: they stand in method; leave these out")
        return self


class JobError(BaseModel):
    code: str
    message: str
    param: str | None = None


class FineTuningJob(BaseModel):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    error: JobError | None
    #: Once it succeeded, what requests name as `model`: `owner/name@version`.
    fine_tuned_model: str | None
    hyperparameters: dict[str, Any]
    model: str
    #: The owner.
    organization_id: str
    result_files: list[str] = []
    seed: int
    status: Status
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    integrations: list[Any] = []
    metadata: dict[str, str]
    method: dict[str, Any]
    #: The job itself, as /v1/jobs and `eigenwerk show` have it.
    job_id: UUID


class FineTuningJobs(BaseModel):
    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class FineTuningEvent(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class FineTuningEvents(BaseModel):
    """The newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    has_more: bool


class FineTuningCheckpoint(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    #: The model of the last one; the others are what the job goes on from, and can't be asked.
    fine_tuned_model_checkpoint: str | None
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


class FineTuningCheckpoints(BaseModel):
    """The furthest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool

"""What an evaluation's manifest tells of each model, as far as it is kept beside the models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

#: Its place in a manifest's report.
REPORT_KEY = "evaluation"


class EvaluatedFigure(BaseModel):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class EvaluatedModel(BaseModel):
    """`judged`: independent rows, queries or texts, as `unit` calls them."""

    model_config = ConfigDict(extra="ignore")

    reference: str
    figures: dict[str, EvaluatedFigure]
    judged: int
    unit: str


class EvaluationReport(BaseModel):
    """`models` by their roles. `dataset`: whose rows were asked, `owner/name@version`."""

    model_config = ConfigDict(extra="ignore")

    task: str
    dataset: str
    models: dict[str, EvaluatedModel]

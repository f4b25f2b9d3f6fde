"""What a pipeline may hold, as JSON Schema. A step that is a job has the schema of its kind, and `when` and `after`."""

from __future__ import annotations

from typing import Any

from jobspecs.pipelines.document import Beside, PipelineDocument
from jobspecs.pipelines.steps import STEP_KINDS
from jobspecs.registry import SPECS


def pipeline_schema() -> dict[str, Any]:
    """References to steps, `$NAME.model` and `$NAME.dataset`, stand wherever a model or data set is named."""
    beside = Beside.model_json_schema()["properties"]
    own = [spec.model_json_schema() for spec in STEP_KINDS.values()]
    steps: list[dict[str, Any]] = [{**one, "properties": {**one["properties"], **beside}} for one in own]
    job = {"kind": {"enum": [*SPECS], "description": "its fields are those of a job of this kind"}, **beside}
    steps.append({"type": "object", "required": ["kind"], "properties": job})
    schema = PipelineDocument.model_json_schema()
    named = schema["properties"]["steps"]
    named["patternProperties"] = {key: {"anyOf": steps} for key in named["patternProperties"]}
    named["additionalProperties"] = False
    return schema

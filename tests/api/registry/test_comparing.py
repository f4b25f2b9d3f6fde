"""Two versions compared over HTTP."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from jobspecs.lineage import Lineage
from jobspecs.manifest import PREDICTIONS_KEY, PREDICTIONS_PATH, Manifest, ManifestFile
from tests.api.conftest import Api, sha256


def predictions(said: list[str]) -> bytes:
    table = pa.table({"row": [1, 2, 3], "text": [7, 8, 9], "label": ["a", "b", "a"], "predicted": said})
    document = {"kind": "train-classifier", "dataset": {"reference": "ada/d@1"}}
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({PREDICTIONS_KEY: json.dumps(document)}), stream)
    return stream.getvalue()


def add(api: Api, epochs: int, said: list[str] | None) -> None:
    content = predictions(said) if said is not None else b""
    path = PREDICTIONS_PATH if said is not None else "w"
    prefix = f"artifacts/{uuid4()}/1"
    api.objects().put_bytes(f"{prefix}/{path}", content)
    metrics = {"validation/accuracy": 0.5, "validation/accuracy_low": 0.4, "validation/accuracy_high": 0.6}
    manifest = Manifest(
        artifact="model",
        files=(ManifestFile(path=path, bytes=len(content), sha256=sha256(content)),),
        metrics=metrics if epochs > 1 else {"validation/accuracy": 0.25},
    )
    lineage = Lineage(kind="train-classifier", spec={"training": {"epochs": epochs, "seed": 1}})
    owner_id = api.user_id()
    with api.database.unit_of_work() as work:
        work.models.add_version(owner_id, "quality", manifest=manifest, prefix=prefix, lineage=lineage)


def compared(api: Api, first: str, second: str) -> Any:
    answer = api.client.get("/v1/registry/comparison", params={"first": first, "second": second})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_two_versions_are_compared_by_spec_figures_and_rows(api: Api) -> None:
    add(api, 1, ["a", "a", "b"])
    add(api, 3, ["a", "b", "b"])
    add(api, 3, None)
    found = compared(api, "quality@1", f"{api.user}/quality@2")
    assert found["differences"] == [{"field": "training.epochs", "first": 1, "second": 3}]
    (figure,) = found["figures"]
    assert (figure["first"], figure["first_low"], figure["second"], figure["second_high"]) == (0.25, None, 0.5, 0.6)
    rows = found["rows"]
    assert (rows["units"], rows["better"], rows["worse"], rows["changed"][0]["row"]) == (3, 1, 0, 2)
    without = compared(api, "quality@1", "quality")
    assert without["rows"] is None and f"{api.user}/quality@3 keeps no predictions" in without["why_not"]
    for first, status in (("quality@9", 404), ("hub:a/b", 422), ("a b", 422)):
        params = {"first": first, "second": "quality@1"}
        assert api.client.get("/v1/registry/comparison", params=params).status_code == status
    with api.as_user(api.new_user()) as other:
        params = {"first": f"{api.user}/quality@1", "second": f"{api.user}/quality@2"}
        assert other.get("/v1/registry/comparison", params=params).status_code == 404

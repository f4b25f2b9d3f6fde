"""The live API against its own description: every route, with inputs that the description allows and with others."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from jobspecs.registry import SPECS
from tests.api.conftest import PATIENCE_S, SPEC, Api
from workers.scheduler.pipelines.advancing import advance

#: Requests per route: 500 in all, half a minute on a busy machine.
EXAMPLES = 8
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Refused as JSON everywhere: nothing behind that would be tried.
NO_NUL = SchemathesisConfig(
    projects=ProjectsConfig(default=ProjectConfig(generation=GenerationConfig(allow_x00=False)))
)


def test_the_description_is_valid_and_holds_every_kind_of_job(ready: Api) -> None:
    document = ready.client.get("/openapi.json").json()
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    spec = document["components"]["schemas"]["JobSpec"]
    assert set(spec["discriminator"]["mapping"]) == set(SPECS)
    for path in ("/v1/jobs", "/v1/jobs/check", "/v1/jobs/estimate"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/JobSpec"}
    assert all(reference.startswith("#/components/schemas/") for reference in _references(document))
    # Two models of one name get those of their modules, which generators shorten to the same again.
    assert [name for name in document["components"]["schemas"] if "__" in name] == []


def test_answers_are_as_described(ready: Api) -> None:
    schema = schemathesis.openapi.from_url(f"{ready.url}/openapi.json", config=NO_NUL)
    operations = [result.ok() for result in schema.get_all_operations()]
    things, found = Things(ready), {}
    # What is deleted can't be asked for any more.
    for operation in sorted(operations, key=lambda each: each.method == "delete"):
        try:
            ask(operation, ready, things)
        except FailureGroup as error:
            found[operation.label] = str(error)
    assert found == {}, "\n\n".join(found.values())
    # It did not only meet locked doors.
    assert len(things.succeeded) > 15, sorted(things.succeeded)


class Things:
    """What a user has, to be named in requests: at random nobody would find it."""

    def __init__(self, api: Api) -> None:
        job = api.submit()["id"]
        api.client.post(f"/v1/jobs/{job}/cancel")
        step = {"kind": "alias", "model": "tiny", "alias": "first"}
        pipeline = api.client.post("/v1/pipelines", json={"kind": "pipeline", "name": "one", "steps": {"one": step}})
        over = {"training.learning_rate": [1e-5, 3e-5]}
        sweep = {
            "kind": "sweep",
            "name": "rates",
            "over": over,
            "spec": {**SPEC, "model": "tiny", "dataset": "headlines"},
        }
        sweep_id = api.client.post("/v1/sweeps", json=sweep).json()["id"]
        # It ends, so that whoever asks for its events gets an answer with an end.
        advance(api.database, pipeline.json()["id"])
        import_id = api.client.post("/v1/registry/imports", json={"name": "other"}).json()["id"]
        hook = {"name": "chat", "url": "https://8.8.8.8/", "event_types": ["job.failed"]}
        webhook_id = api.client.post("/v1/webhooks", json=hook).json()["id"]
        weekly = {"name": "tiny", "cron": "0 9 * * 1", "spec": {**SPEC, "model": "tiny", "dataset": "headlines"}}
        assert api.client.post("/v1/schedules", json=weekly).status_code == 201
        delivery_id = api.client.post(f"/v1/webhooks/{webhook_id}/test", json={}).json()["id"]
        chat = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}\n'
        file = api.client.post("/v1/files", files={"file": ("chat.jsonl", chat * 3)}, data={"purpose": "fine-tune"})
        coming = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 5}
        self._values = {
            "file_id": file.json()["id"],
            "upload_id": api.client.post("/v1/uploads", json=coming).json()["id"],
            "job_id": job,
            "import_id": import_id,
            "webhook_id": webhook_id,
            "delivery_id": delivery_id,
            "pipeline_id": pipeline.json()["id"],
            "sweep_id": sweep_id,
            "owner": api.user,
            "version": "1",
            "selector": "1",
            "path": "config.json",
            "kind": "finetune-llm",
            "repo_type": "models",
            "revision": "main",
            "sha256": "0" * 64,
        }
        self._names = {"/v1/datasets": "headlines", "/v1/users": api.user}
        #: Routes that answered with a success.
        self.succeeded: set[str] = set()

    def name_in(self, case: Any) -> None:
        """Lets the request name what there is."""
        path = case.operation.path
        name = next((name for prefix, name in self._names.items() if path.startswith(prefix)), "tiny")
        values = {**self._values, "name": name}
        case.path_parameters = {key: values.get(key, value) for key, value in (case.path_parameters or {}).items()}
        if path.startswith("/v1/jobs") and isinstance(case.body, dict):
            case.body = {**case.body, "model": "tiny", "dataset": "headlines"}


def ask(operation: Any, api: Api, things: Things) -> None:
    """Sends requests to a route. Raises what schemathesis finds."""

    @given(
        case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode]),
        aimed=st.booleans(),
    )
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def asked(case: Any, aimed: bool) -> None:
        if aimed:
            things.name_in(case)
        response = case.call_and_validate(headers=dict(api.client.headers), checks=CHECKS, timeout=PATIENCE_S)
        if response.status_code < 300:
            things.succeeded.add(operation.label)

    asked()


def _references(document: Any) -> list[str]:
    if isinstance(document, list):
        return [found for item in document for found in _references(item)]
    if not isinstance(document, dict):
        return []
    own = [document["$ref"]] if isinstance(document.get("$ref"), str) else []
    return own + [found for item in document.values() for found in _references(item)]

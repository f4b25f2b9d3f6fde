"""Tools that change something. They are there only where changes are allowed and the token may make them."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import Field

from eigenwerk.mcp_server.answers import Answer, Clients, answered, said_plainly
from eigenwerk.mcp_server.asking import Deployed
from eigenwerk.mcp_server.looking import Reference, Spec, Work, found_work


class Changing:
    """Each method is a tool."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def submit(
        self,
        context: Context,
        spec: Spec,
        idempotency_key: Annotated[
            str | None, Field(max_length=255, description="the same key and spec give the one submitted before")
        ] = None,
    ) -> Answer:
        """Queues a job, or starts a pipeline. `check` and `estimate` say before what it would take."""
        with said_plainly(), self._clients(context) as client:
            if spec.get("kind") == "pipeline":
                made = client.submit_pipeline(spec, idempotency_key=idempotency_key)
                return answered(made.model_dump(mode="json", exclude={"document", "cursor"}))
            return answered(
                client.submit(spec, idempotency_key=idempotency_key).model_dump(mode="json", exclude={"spec"})
            )

    def retry(self, context: Context, work: Work) -> Answer:
        """Goes on with a failed or cancelled job or pipeline from where it stopped."""
        with said_plainly(), self._clients(context) as client:
            kind, found = found_work(client, work)
            made = client.retry_pipeline(found) if kind == "pipeline" else client.retry(found)
            return answered({"id": made.id, "state": made.state})

    def cancel(self, context: Context, work: Work) -> Answer:
        """Stops a job or a whole pipeline; its checkpoints stay, and it can be retried."""
        with said_plainly(), self._clients(context) as client:
            kind, found = found_work(client, work)
            made = client.cancel_pipeline(found) if kind == "pipeline" else client.cancel(found)
            return answered({"id": made.id, "state": made.state})

    def deploy(
        self,
        context: Context,
        name: Annotated[str, Field(description="the deployment's name")],
        model: Annotated[str | None, Field(description="a registered model; the one of that name when absent")] = None,
        replicas: Annotated[int, Field(ge=1, le=8)] = 1,
        gpus: Annotated[int | None, Field(ge=0, le=8)] = None,
    ) -> Answer:
        """Serves a model under a name, or replaces what is served there once the new one is ready."""
        with said_plainly(), self._clients(context) as client:
            return answered(client.deploy(name, model=model, replicas=replicas, gpus=gpus))

    def undeploy(self, context: Context, deployment: Deployed) -> Answer:
        """Ends a deployment: nobody can ask it any more. The model stays registered."""
        with said_plainly(), self._clients(context) as client:
            client.undeploy(deployment)
            return answered({"deployment": deployment, "state": "stopping"})

    def set_alias(
        self,
        context: Context,
        model: Reference,
        alias: str,
        reason: Annotated[str | None, Field(max_length=500, description="why, for the alias's history")] = None,
    ) -> Answer:
        """Points an alias such as `prod` at this version of a model; `models alias --rollback` leads back."""
        with said_plainly(), self._clients(context) as client:
            return answered(client.set_alias(model, alias, reason=reason))


_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
_REPLACES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
CHANGING = {
    "submit": ("Submit a job or pipeline", _ADDS),
    "retry": ("Retry a job or pipeline", _ADDS),
    "cancel": ("Cancel a job or pipeline", _REPLACES),
    "deploy": ("Deploy a model", _REPLACES),
    "undeploy": ("End a deployment", _REPLACES),
    "set_alias": ("Move an alias", _REPLACES),
}

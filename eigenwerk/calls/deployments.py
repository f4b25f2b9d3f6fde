"""What the client does with deployments."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from eigenwerk.errors import EigenwerkError
from eigenwerk.http.transport import Transport, given
from eigenwerk.references import path_of
from eigenwerk.resources import Deployment


class DeploymentCalls:
    """Methods of the client."""

    _transport: Transport

    def deploy(
        self,
        name: str,
        *,
        model: str | None = None,
        replicas: int = 1,
        hosts: int | None = None,
        memory_gib: float | None = None,
        gpus: int | None = None,
        engine: str | None = None,
        traffic_percent: int | None = None,
        idle_after_s: int | None = None,
        context_tokens: int | None = None,
        sequences: int | None = None,
        adapters: Sequence[str] | None = None,
    ) -> Deployment:
        """Serves a model (the one of the same name when absent). Use `await_deployment` to wait until it is ready.

        `name` may carry an owner: `owner/name`.
        `hosts`: how many the replicas are spread over; one when absent.
        `gpus`: of all replicas, one each at most; without any they compute on the CPU.
        `traffic_percent`: beside what is deployed, as its candidate, which gets so many of 100 requests.
        `context_tokens`, `sequences`: memory is kept for so many answers of so many tokens in each replica.
        `idle_after_s`: seconds without a request after which it sleeps, until the next one; never when absent.
        `adapters`: LoRA adapters of the model, served beside it; requests name one as their model.
        `engine`: embedded, llamacpp, …; when absent it is chosen by the model and the hosts (`engine_reason`).
        """
        body = given(model=model, replicas=replicas, hosts=hosts, memory_gib=memory_gib, gpus=gpus, engine=engine)
        body |= given(traffic_percent=traffic_percent, idle_after_s=idle_after_s, adapters=list(adapters or ()) or None)
        body |= given(context_tokens=context_tokens, sequences=sequences)
        return Deployment.model_validate(self._transport.call("PUT", path_of("deployments", name), json=body))

    def deploy_external(self, name: str, url: str, model: str, *, key: str = "", **more: str | None) -> Deployment:
        """Registers an engine that somebody else runs under a name. `key` is sent to it and shown to nobody.

        `model`: what it calls its model. `more`: `health_path`, `metrics_path`.
        """
        body = {"external": given(url=url, model=model, key=key or None, **more)}
        return Deployment.model_validate(self._transport.call("PUT", path_of("deployments", name), json=body))

    def await_deployment(self, name: str, *, timeout_s: float = 300.0, poll_s: float = 0.5) -> Deployment:
        """Returns the deployment once it is ready. Raises EigenwerkError when it fails or takes longer."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            deployment = self.deployment(name)
            why = ": ".join(part for part in (deployment.state, deployment.reason, deployment.message) if part)
            if deployment.state == "ready":
                return deployment
            if deployment.state == "failed":
                raise EigenwerkError(f"The deployment {name} failed ({why}). Mend the cause, then deploy it again.")
            if time.monotonic() >= deadline_s:
                raise EigenwerkError(
                    f"The deployment {name} was not ready after {timeout_s:g} s ({why}). "
                    "`eigenwerk deployments` shows when it is."
                )
            self._transport.sleep(poll_s)

    def await_candidate(self, name: str, *, timeout_s: float = 300.0, poll_s: float = 0.5) -> Deployment:
        """As `await_deployment`, once its candidate is ready."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            deployment = self.deployment(name)
            candidate = deployment.candidate or {"state": "gone", "message": None}
            why = ": ".join(part for part in (candidate["state"], candidate["message"]) if part)
            if candidate["state"] == "ready":
                return deployment
            if candidate["state"] in ("failed", "gone"):
                raise EigenwerkError(f"The candidate of {name} failed ({why}). End it: eigenwerk deployments rollback")
            if time.monotonic() >= deadline_s:
                raise EigenwerkError(f"The candidate of {name} was not ready after {timeout_s:g} s ({why}).")
            self._transport.sleep(poll_s)

    def set_traffic(self, name: str, percent: int) -> Deployment:
        """The candidate gets so many of 100 requests."""
        return self._move_traffic(name, "traffic", {"percent": percent})

    def promote(self, name: str) -> Deployment:
        """The candidate gets all requests; what was deployed until now ends."""
        return self._move_traffic(name, "promote")

    def roll_back(self, name: str) -> Deployment:
        """Ends the candidate."""
        return self._move_traffic(name, "rollback")

    def _move_traffic(self, name: str, verb: str, body: Mapping[str, int] | None = None) -> Deployment:
        answer = self._transport.call("POST", f"{path_of('deployments', name)}/{verb}", json=body)
        return Deployment.model_validate(answer)

    def deployments(self) -> list[Deployment]:
        return [Deployment.model_validate(item) for item in self._transport.call("GET", "/v1/deployments")["data"]]

    def deployment(self, name: str) -> Deployment:
        return Deployment.model_validate(self._transport.call("GET", path_of("deployments", name)))

    def put_to_sleep(self, name: str) -> Deployment:
        """The deployment gives back what it takes, until a request or `wake` starts it again."""
        return Deployment.model_validate(self._transport.call("POST", f"{path_of('deployments', name)}/sleep"))

    def wake(self, name: str) -> Deployment:
        """Starts a deployment that sleeps. Use `await_deployment` to wait until it is ready."""
        return Deployment.model_validate(self._transport.call("POST", f"{path_of('deployments', name)}/wake"))

    def undeploy(self, name: str) -> None:
        """Ends a deployment; the model stays in the registry."""
        self._transport.call("DELETE", path_of("deployments", name))

"""The registry of models: what is there, who may read it, and which version a name means."""

from __future__ import annotations

from urllib.parse import quote

from eigenwerk.references import parsed, version_to_delete
from eigenwerk.resources import Alias, AliasHistory, Deleted, Model, ModelVersion, ModelVersionDetail, User
from eigenwerk.transport import Transport, given
from jobspecs.references import Reference
from jobspecs.rights import Visibility


class RegistryCalls:
    """The part of a Client that knows models. A `name` may carry an owner: `owner/name`."""

    _transport: Transport

    def models(self, *, shared: bool = False) -> list[ModelVersion]:
        """The newest version of each of your models; with `shared` also of those that others share."""
        page = self._transport.call("GET", "/v1/registry/models", params={"shared": "true"} if shared else None)
        return [ModelVersion.model_validate(item) for item in page["data"]]

    def model(self, name: str) -> Model:
        """A model with its versions and aliases."""
        return Model.model_validate(self._transport.call("GET", self._model_path(parsed(name))))

    def model_version(self, reference: str) -> ModelVersionDetail:
        """`name`, `name@3`, `name@alias` or with an owner: the version with its manifest."""
        wanted = parsed(reference)
        path = f"{self._model_path(wanted)}/versions/{wanted.version or wanted.alias or 'latest'}"
        return ModelVersionDetail.model_validate(self._transport.call("GET", path))

    def share_model(self, name: str, visibility: Visibility = "everyone") -> Model:
        """Lets everyone on the platform read all versions of a model of yours; `private` takes it back.

        Jobs and deployments that use it already keep it.
        """
        answer = self._transport.call("PATCH", self._model_path(parsed(name)), json={"visibility": visibility})
        return Model.model_validate(answer)

    def set_alias(self, reference: str, alias: str, *, reason: str | None = None) -> Alias:
        """Points an alias at a version: `set_alias("newsticker@3", "prod")`. No deployment moves with it.

        The answer's `left_behind` names your deployments that serve what it meant before.
        """
        version = self.model_version(reference)
        path = self._alias_path(f"{version.owner}/{version.name}", alias)
        body = given(version=version.version, reason=reason)
        return Alias.model_validate(self._transport.call("PUT", path, json=body))

    def roll_back_alias(self, name: str, alias: str, *, reason: str | None = None) -> Alias:
        """Points an alias where it pointed before; called again, a step further back. A deleted one comes back."""
        path = f"{self._alias_path(name, alias)}/rollback"
        return Alias.model_validate(self._transport.call("POST", path, json=given(reason=reason)))

    def alias_history(self, name: str, alias: str) -> AliasHistory:
        """What an alias means, and every move that it made, the newest first."""
        return AliasHistory.model_validate(self._transport.call("GET", self._alias_path(name, alias)))

    def delete_alias(self, name: str, alias: str, *, reason: str | None = None) -> None:
        """Deletes an alias; the version that it means stays, and so does its history."""
        self._transport.call("DELETE", self._alias_path(name, alias), params=given(reason=reason))

    def delete_model(self, reference: str, *, dry_run: bool = False) -> Deleted:
        """Deletes `name@version`, or all versions of `name`. Status 409, with the reason, while one is in use.

        With `dry_run` it is only told what would be gone.
        """
        wanted = parsed(reference)
        version = version_to_delete(wanted, reference)
        return self._deleted(f"{self._model_path(wanted)}{version}", dry_run)

    def _deleted(self, path: str, dry_run: bool) -> Deleted:
        params = {"dry_run": "true"} if dry_run else None
        return Deleted.model_validate(self._transport.call("DELETE", path, params=params))

    def _alias_path(self, name: str, alias: str) -> str:
        return f"{self._model_path(parsed(name))}/aliases/{quote(alias, safe='')}"

    def _model_path(self, reference: Reference) -> str:
        return f"/v1/registry/models/{reference.owner or self._owner()}/{reference.name}"

    def _owner(self) -> str:
        """Whose token it is."""
        return User.model_validate(self._transport.call("GET", "/v1/users/me")).name

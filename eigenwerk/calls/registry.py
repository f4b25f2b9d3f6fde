"""The registry of models: what is there, who may read it, and which version a name means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eigenwerk.errors import EigenwerkError
from eigenwerk.http.transport import Transport, given
from eigenwerk.references import numbered_path, parsed
from eigenwerk.resources import Deleted, Model, ModelVersion, ModelVersionDetail, User
from eigenwerk.resources.model_relations import Alias, AliasHistory, ModelComparison, ModelLineage
from jobspecs.file_errors import why_not
from jobspecs.manifest import CARD
from jobspecs.references import Reference
from jobspecs.rights import Visibility

#: A picture that a card links.
_PICTURE = re.compile(r"\]\(card/([A-Za-z0-9-]+\.svg)\)")


class RegistryCalls:
    """The part of a Client that knows models. A `name` may carry an owner: `owner/name`."""

    _transport: Transport

    def models(
        self,
        text: str | None = None,
        *,
        task: str | None = None,
        tags: Sequence[str] = (),
        base: str | None = None,
        license: str | None = None,
        archived: bool = False,
        shared: bool = False,
    ) -> list[ModelVersion]:
        """The newest version of each of your models that fits; with `shared` also of those that others share.

        `text`: words in name, owner, description or tags; `base`: what it was made from, as a spec would name it.
        `archived`: also archived versions.
        """
        asked = given(q=text, task=task, tag=list(tags) or None, base=base, license=license)
        asked |= given(archived="true" if archived else None, shared="true" if shared else None)
        page = self._transport.call("GET", "/v1/registry/models", params=asked)
        return [ModelVersion.model_validate(item) for item in page["data"]]

    def model(self, name: str) -> Model:
        """A model with its versions and aliases."""
        return Model.model_validate(self._transport.call("GET", self._model_path(parsed(name))))

    def model_version(self, reference: str) -> ModelVersionDetail:
        """`name`, `name@3`, `name@alias` or with an owner: the version with its manifest."""
        return ModelVersionDetail.model_validate(self._transport.call("GET", self._selected_path(reference)))

    def model_lineage(self, reference: str) -> ModelLineage:
        """What a version was made from and by, what was made from it, and your deployments that serve it."""
        return ModelLineage.model_validate(self._transport.call("GET", f"{self._selected_path(reference)}/lineage"))

    def model_card(self, reference: str) -> str:
        """The model card in Markdown; its pictures are linked as `card/NAME.svg`."""
        return self._text(f"{self._selected_path(reference)}/card")

    def save_model_card(self, reference: str, folder: Path) -> Path:
        """Writes the card and its pictures below `folder`, as README.md and card/*.svg; gives the card's place.

        Raises EigenwerkError where files can't be written.
        """
        path = f"{self._selected_path(reference)}/card"
        text = self._text(path)
        files = {CARD: text}
        files |= {f"card/{name}": self._text(f"{path}/{name}") for name in dict.fromkeys(_PICTURE.findall(text))}
        try:
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(content, encoding="utf-8")
        except OSError as error:
            raise EigenwerkError(f"The card can't be written to {folder}: {why_not(error)}.") from error
        return folder / CARD

    def compare_models(self, first: str, second: str) -> ModelComparison:
        """Two versions: what differs in their specs, their figures, and, judged on the same rows, which flipped."""
        params = {"first": first, "second": second}
        return ModelComparison.model_validate(self._transport.call("GET", "/v1/registry/comparison", params=params))

    def share_model(self, name: str, visibility: Visibility = "everyone") -> Model:
        """Lets everyone on the platform read all versions of a model of yours; `private` takes it back.

        Jobs and deployments that use it already keep it.
        """
        return self._changed(name, visibility=visibility)

    def tag_model(self, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Model:
        """Adds tags to a model and takes others from it."""
        return self._changed(name, tags_added=list(add), tags_removed=list(remove))

    def describe_model(self, name: str, **said: str | None) -> Model:
        """`description` and `license` of a model, for all its versions; None takes away what was said."""
        return self._changed(name, **said)

    def deploy_on_first_use(self, name: str, *, idle_after_s: int | None = 600, **deploying: Any) -> Model:
        """Lets the first request that names a version of the model deploy it, by these wishes of `deploy`."""
        return self._changed(name, first_use={"idle_after_s": idle_after_s, **deploying})

    def never_deploy_on_first_use(self, name: str) -> Model:
        """Takes that back; what is deployed stays."""
        return self._changed(name, first_use=None)

    def archive_model(self, reference: str, *, archived: bool = True) -> None:
        """Lets lists, and names without a version, pass over `name@3`, or all versions that `name` has now.

        Numbers and aliases go on to work. `archived=False` takes it back.
        """
        path = self._model_path(wanted := parsed(reference)) + numbered_path(wanted, reference)
        self._transport.call("PATCH", path, json={"archived": archived})

    def set_alias(self, reference: str, alias: str, *, reason: str | None = None, force: bool = False) -> Alias:
        """Points an alias at a version: `set_alias("newsticker@3", "prod")`. No deployment moves with it.

        The answer's `left_behind` names your deployments that serve what it meant before. Onto a version that is
        unverified it goes with `force` only, which its history keeps.
        """
        version = self.model_version(reference)
        path = self._alias_path(f"{version.owner}/{version.name}", alias)
        body = given(version=version.version, reason=reason, force=force or None)
        return Alias.model_validate(self._transport.call("PUT", path, json=body))

    def roll_back_alias(self, name: str, alias: str, *, reason: str | None = None, force: bool = False) -> Alias:
        """Points an alias where it pointed before; called again, a step further back. A deleted one comes back."""
        path = f"{self._alias_path(name, alias)}/rollback"
        return Alias.model_validate(self._transport.call("POST", path, json=given(reason=reason, force=force or None)))

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
        version = numbered_path(wanted, reference)
        return self._deleted(f"{self._model_path(wanted)}{version}", dry_run)

    def _changed(self, name: str, **change: Any) -> Model:
        return Model.model_validate(self._transport.call("PATCH", self._model_path(parsed(name)), json=change))

    def _deleted(self, path: str, dry_run: bool) -> Deleted:
        params = {"dry_run": "true"} if dry_run else None
        return Deleted.model_validate(self._transport.call("DELETE", path, params=params))

    def _text(self, path: str) -> str:
        with self._transport.stream(path, {}) as response:
            return response.read().decode("utf-8")

    def _alias_path(self, name: str, alias: str) -> str:
        return f"{self._model_path(parsed(name))}/aliases/{quote(alias, safe='')}"

    def _selected_path(self, reference: str) -> str:
        wanted = parsed(reference)
        return f"{self._model_path(wanted)}/versions/{wanted.version or wanted.alias or 'latest'}"

    def _model_path(self, reference: Reference) -> str:
        return f"/v1/registry/models/{reference.owner or self._owner()}/{reference.name}"

    def _owner(self) -> str:
        """Whose token it is."""
        return User.model_validate(self._transport.call("GET", "/v1/users/me")).name

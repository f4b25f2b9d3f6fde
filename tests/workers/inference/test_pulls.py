"""What an adapter's deployment fetches beside the adapter, on a real database and a real object store."""

from __future__ import annotations

import secrets
from pathlib import Path
from uuid import UUID

import pytest

from jobspecs.frozen import FrozenHubModel
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ModelOrigin, describe_files
from jobspecs.pieces import stored_below
from storage.objects import ObjectCorrupt
from storage.secret_box import SecretBox
from tests.workers.inference.conftest import Place
from workers.files import host_cache
from workers.files.host_cache import HostCache
from workers.files.hub import HubAccess, HubUnavailable, hub_access
from workers.inference.model_folders import ModelFolders
from workers.inference.pulls import (
    Base,
    HubBase,
    MissingBase,
    StoredModel,
    cached_name,
    failure_of,
    find_base,
    is_passing,
    pull,
)
from workers.run.context import RunFailed

HUB_MODEL = FrozenHubModel(repository="org/base", revision="a" * 40)


@pytest.fixture
def folders(place: Place, tmp_path: Path) -> ModelFolders:
    return ModelFolders(tmp_path / "models", HostCache(tmp_path / "cache", place.store, bytes_max=1 << 30))


def find(place: Place, owner_id: UUID, origin: ModelOrigin) -> Base:
    with place.database.unit_of_work() as work:
        return find_base(work, (owner_id,), origin)


def adapter_for(place: Place, name: str) -> tuple[StoredModel, Manifest]:
    """A registered model, and as its base another one, by digest."""
    _, base, _ = place.register(name, ("good", "bad"), seed=21)
    _, manifest, prefix = place.register(f"{name}-adapter", ("good", "bad"), seed=22)
    return StoredModel(stored_below(prefix, manifest.files), manifest), base


def test_an_adapters_base_is_found_by_digest_and_fetched_beside_it(place: Place, folders: ModelFolders) -> None:
    adapter, manifest = adapter_for(place, "grown")
    base = find(place, place.owner_id, ModelOrigin(reference="alice/other-name@9", digest=manifest.digest))
    pulled = pull(folders, adapter, base)
    assert pulled.base_dir is not None
    assert describe_files(pulled.base_dir) == manifest.files
    assert describe_files(pulled.model_dir) == adapter.manifest.files
    assert cached_name(base) == pulled.base_dir.name


def test_a_base_that_is_gone_or_somebody_elses_is_named(place: Place, folders: ModelFolders) -> None:
    adapter, manifest = adapter_for(place, "lost")
    with place.database.unit_of_work() as work:
        stranger = work.users.ensure("mallory").id
    for owner_id, digest in ((place.owner_id, "f" * 64), (stranger, manifest.digest)):
        base = find(place, owner_id, ModelOrigin(reference="alice/lost@1", digest=digest))
        assert isinstance(base, MissingBase)
        with pytest.raises(RunFailed, match=r"alice/lost@1.*Import that base") as caught:
            pull(folders, adapter, base)
        assert failure_of(caught.value).reason is Reason.invalid_model


def test_a_damaged_base_fails_as_a_damaged_model_does(place: Place, folders: ModelFolders) -> None:
    adapter, manifest = adapter_for(place, "hurt")
    base = find(place, place.owner_id, ModelOrigin(reference="alice/hurt@1", digest=manifest.digest))
    assert isinstance(base, StoredModel)
    (key,) = (file.pieces[0].key for file in base.files if file.path == "model.safetensors")
    weights = bytearray(place.store.get_bytes(key))
    weights[-1] ^= 1
    place.store.put_bytes(key, bytes(weights))
    with pytest.raises(ObjectCorrupt) as caught:
        pull(folders, adapter, base)
    assert failure_of(caught.value).reason is Reason.corrupt_artifact
    assert not is_passing(caught.value)


def test_a_base_of_the_hub_is_kept_as_plain_files(
    place: Place, folders: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, _ = adapter_for(place, "hubbed")
    fetched = []

    def fetch(model: FrozenHubModel, folder: Path, *, endpoint: str | None, token: str | None) -> Path:
        """As the hub's own cache lays it out: links to blobs."""
        fetched.append(model)
        blob, snapshot = folder / "blobs" / "b", folder / "snapshots" / "s"
        for path in (blob, snapshot / "nested" / "config.json"):
            path.parent.mkdir(parents=True)
        blob.write_bytes(b"{}")
        (snapshot / "nested" / "config.json").symlink_to(blob)
        return snapshot

    monkeypatch.setattr(host_cache, "sums_of", lambda model, **access: [])
    monkeypatch.setattr(host_cache, "fetch_snapshot", fetch)
    origin = ModelOrigin(reference=f"hub:org/base@{HUB_MODEL.revision}")
    for _ in range(2):
        base = find(place, place.owner_id, origin)
        assert base == HubBase(HUB_MODEL, place.owner_id)
        folder = pull(folders, adapter, base).base_dir
        assert folder is not None
        assert [file.path for file in describe_files(folder)] == ["nested/config.json"]
        assert folder.name == cached_name(base)
    assert len(fetched) == 1


def test_a_gated_base_is_fetched_with_its_owners_token_and_served_to_no_other(
    place: Place, folders: ModelFolders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    adapter, _ = adapter_for(place, "gated")
    box, token, asked = SecretBox(secrets.token_urlsafe(32)), "hf_of_the_owner_0123", list[str | None]()
    with place.database.unit_of_work() as work:
        stranger = work.users.ensure("mallory").id
        work.hub_tokens.put(place.owner_id, box.seal(place.owner_id, token), token[-4:])

    def access_of(owner_id: UUID) -> HubAccess | None:
        with place.database.unit_of_work() as work:
            return hub_access(work, box, owner_id)

    def fetch(model: FrozenHubModel, folder: Path, *, endpoint: str | None, token: str | None) -> Path:
        asked.append(token)
        if token is None:
            raise RunFailed(Reason.invalid_model, "The hub refuses org/base.")
        (folder / "snapshot").mkdir(parents=True)
        (folder / "snapshot" / "config.json").write_bytes(b"{}")
        return folder / "snapshot"

    monkeypatch.setattr(host_cache, "sums_of", lambda model, **access: [])
    monkeypatch.setattr(host_cache, "fetch_snapshot", fetch)
    own = pull(folders, adapter, HubBase(HUB_MODEL, place.owner_id), hub_access=access_of).base_dir
    assert own is not None and (own / "config.json").is_file()
    assert asked == [None, token]
    # It lies in a folder of this host by now, which another's deployment of an adapter that is made up would name.
    with pytest.raises(RunFailed, match="refuses"):
        pull(folders, adapter, HubBase(HUB_MODEL, stranger), hub_access=access_of)
    assert token not in caplog.text
    assert not any(token in path.read_text(errors="ignore") for path in own.rglob("*") if path.is_file())


def test_a_hub_that_is_away_is_asked_again_later(
    place: Place, folders: ModelFolders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adapter, _ = adapter_for(place, "waiting")

    def fetch(model: FrozenHubModel, folder: Path, *, endpoint: str | None, token: str | None) -> Path:
        raise HubUnavailable("The model hub does not answer: timeout")

    monkeypatch.setattr(host_cache, "sums_of", lambda model, **access: [])
    monkeypatch.setattr(host_cache, "fetch_snapshot", fetch)
    with pytest.raises(HubUnavailable) as caught:
        pull(folders, adapter, HubBase(HUB_MODEL, place.owner_id))
    assert is_passing(caught.value)
    assert failure_of(caught.value).reason is Reason.storage_unavailable
    assert not list((tmp_path / "models").glob(".incoming*"))


def test_a_deployed_model_and_a_jobs_input_are_the_same_bytes_on_the_disk(place: Place, tmp_path: Path) -> None:
    cache = HostCache(tmp_path / "cache", place.store, bytes_max=1 << 30)
    folders = ModelFolders(tmp_path / "models", cache)
    _, manifest, prefix = place.register("shared", ("good", "bad"), seed=23)
    files = stored_below(prefix, manifest.files)
    served = folders.pull(files, manifest)
    cache.place_files(files, tmp_path / "inputs", should_stop=lambda: False)
    assert all((served / file.path).samefile(tmp_path / "inputs" / file.path) for file in manifest.files)
    folders.prune(in_use={manifest.digest})
    assert served.is_dir()
    folders.prune(in_use=set())
    assert not served.exists() and folders.pull(files, manifest) == served

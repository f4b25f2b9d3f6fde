"""Who sees a repository, and its tags, as the hub's clients change them."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HfHubHTTPError

from tests.api.conftest import Api
from tests.api.hub.pushing import hub


def test_a_tag_is_an_alias_and_a_public_repository_is_shared_with_everyone(api: Api) -> None:
    api.import_model("shared")
    repository, client = f"{api.user}/shared", hub(api)
    client.create_tag(repository, tag="prod", revision="1")
    assert api.client.get(f"/v1/registry/models/{repository}").json()["aliases"] == {"prod": 1}
    client.create_tag(repository, tag="prod", exist_ok=True)
    for name in ("../prod", "main", "7"):
        assert api.client.post(f"/hf/api/models/{repository}/tag/1", json={"tag": name}).status_code == 422
    assert api.client.get(f"/v1/registry/models/{repository}").json()["aliases"] == {"prod": 1}
    stranger = hub(api, api.new_user())
    assert not stranger.repo_exists(repository)
    client.update_repo_settings(repository, private=False)
    assert stranger.model_info(repository, revision="prod").private is False
    assert [found.id for found in stranger.list_models(author=api.user)] == [repository]
    with pytest.raises(HfHubHTTPError):
        stranger.update_repo_settings(repository, private=True)
    # Other tests look at all that a user sees.
    client.update_repo_settings(repository, private=True)
    client.delete_tag(repository, tag="prod")
    assert [ref.name for ref in client.list_repo_refs(repository).branches] == ["main"]


@pytest.mark.parametrize("visibility", ["protected", "internal", ""])
def test_a_visibility_that_is_unknown_shares_nothing(api: Api, visibility: str) -> None:
    api.import_model("kept")
    answer = api.client.put(f"/hf/api/models/{api.user}/kept/settings", json={"visibility": visibility})
    assert answer.status_code == 422
    assert api.client.get(f"/v1/registry/models/{api.user}/kept").json()["visibility"] == "private"


def test_a_tag_that_no_alias_can_have_is_not_found(api: Api) -> None:
    api.import_model("tagged")
    for tag in ("a%00b", "nothing"):
        assert api.client.delete(f"/hf/api/models/{api.user}/tagged/tag/{tag}").status_code == 404, tag

from __future__ import annotations

from uuid import UUID

import httpx

from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import HEADLINES, Api
from tests.api.hub.pushing import CONFIG, commit, made, upload, weights, xorb


def test_everybody_sees_what_is_theirs_and_an_administrator_what_is_everybodys(ready: Api) -> None:
    model = ready.import_model("second")
    started = ready.client.post("/v1/registry/imports", json={"name": "half"}).json()["id"]
    sent = ready.client.put(f"/v1/registry/imports/{started}/files/config.json", content=b"{}")
    assert sent.status_code == 201, sent.text
    job_id = UUID(ready.submit()["id"])
    files = tuple(ManifestFile(path=name, bytes=500, sha256="0" * 64) for name in ("a", "b"))
    with ready.database.unit_of_work() as work:
        work.jobs.assign(job_id, "gone", lease_s=60)
        for step in (1, 2):
            manifest = Manifest(artifact="checkpoint", files=files)
            work.checkpoints.add(job_id, 1, step, prefix=f"checkpoints/{job_id}/1/{step}", manifest=manifest)
    usage = ready.client.get("/v1/usage/storage").json()
    kinds = {item["kind"]: (item["items"], item["bytes"]) for item in usage["data"]}
    expected = {"models": (2, 2 * model["bytes"]), "datasets": (1, len(HEADLINES)), "imports": (1, 2)}
    assert kinds == {**expected, "checkpoints": (2, 2000)}
    assert usage["bytes_total"] == 2 * model["bytes"] + len(HEADLINES) + 2002
    assert {item["owner"] for item in usage["data"]} == {ready.user}
    refused = ready.client.get("/v1/usage/storage", params={"all": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert "administrators" in refused.json()["error"]["message"]
    everybody = ready.admin.get("/v1/usage/storage", params={"all": True}).json()["data"]
    assert [item for item in everybody if item["owner"] == ready.user] == usage["data"]
    assert ready.user not in {item["owner"] for item in ready.admin.get("/v1/usage/storage").json()["data"]}
    ready.client.delete(f"/v1/registry/models/{ready.user}/second")
    after = ready.client.get("/v1/usage/storage").json()
    assert after["bytes_total"] == usage["bytes_total"] - model["bytes"]


def test_what_a_client_of_the_hub_has_sent_counts_until_a_version_has_it(api: Api) -> None:
    def used() -> dict[str, tuple[int, int]]:
        usage = api.client.get("/v1/usage/storage").json()["data"]
        return {item["kind"]: (item["items"], item["bytes"]) for item in usage}

    repository, content = made(api, "sent"), weights(71)
    upload(api.client, repository, content)
    assert used() == {"uploads": (1, len(content))}
    chunks = xorb(b"chunk" * 10)
    told = api.client.get(f"/hf/api/models/{repository}/xet-write-token/main").json()
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    address = f"{told['casUrl']}/v1/xorbs/default/{'0123456789abcdef' * 4}"
    sent = httpx.post(address, content=chunks, headers=headers, trust_env=False)
    assert sent.status_code == 200, sent.text
    assert used() == {"uploads": (2, len(content) + len(chunks))}
    assert commit(api.client, repository, {"config.json": CONFIG}, {"model.safetensors": content}).status_code == 200
    assert used()["uploads"] == (1, len(chunks))
    assert used()["models"][0] == 1

"""What an administrator may do to others' things, and nobody else."""

from __future__ import annotations

from tests.api.conftest import Api


def submitted(api: Api) -> str:
    api.push()
    api.import_model()
    job_id: str = api.submit()["id"]
    return job_id


def test_an_administrator_sees_and_cancels_anybodys_job(api: Api) -> None:
    job_id = submitted(api)
    mine = {job["id"] for job in api.admin.get("/v1/jobs").json()["data"]}
    assert job_id not in mine, "a list shows one's own unless more is asked for"
    for query in ({"all": True}, {"owner": api.user}, {"owner": api.user, "state": "queued"}):
        page = api.admin.get("/v1/jobs", params=query).json()["data"]
        assert job_id in {job["id"] for job in page if job["owner"] == api.user}, query
    path = f"/v1/jobs/{job_id}"
    for part in ("", "/logs", "/events"):
        assert api.admin.get(f"{path}{part}", headers={"Accept": "application/json"}).status_code == 200, part
    cancelled = api.admin.post(f"{path}/cancel").json()
    assert (cancelled["state"], cancelled["owner"]) == ("cancelled", api.user)
    assert cancelled["transitions"][-1]["actor"] == "user:admin", "the owner sees who it was"


def test_nobody_else_sees_or_cancels_others_jobs(api: Api) -> None:
    job_id = submitted(api)
    with api.as_user(api.new_user()) as other:
        refused = other.get("/v1/jobs", params={"all": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
        assert "administrators" in refused.json()["error"]["message"]
        for unknown in (api.user, "nobody-of-that-name"):
            assert other.get("/v1/jobs", params={"owner": unknown}).status_code == 404
        for method, part in (("GET", ""), ("GET", "/logs"), ("GET", "/events"), ("POST", "/cancel")):
            assert other.request(method, f"/v1/jobs/{job_id}{part}").status_code == 404
    assert api.client.get("/v1/jobs", params={"owner": api.user}).json()["data"][0]["id"] == job_id

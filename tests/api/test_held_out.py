"""A job with two data sets: one to train on, one to judge by."""

from __future__ import annotations

from tests.api.conftest import HEADLINES, SPEC, Api

JUDGED = {"validation": {"dataset": "official@1"}}
OFFICIAL = HEADLINES.replace("number", "of a test number")


def test_a_data_set_that_judges_is_frozen_checked_and_kept_while_the_job_needs_it(api: Api) -> None:
    api.import_model()
    api.push()
    # Both were pushed under one file name.
    api.push("official", OFFICIAL)
    report = api.client.post("/v1/jobs/check", json={**SPEC, **JUDGED}).json()
    assert (report["rows"], report["held_out"]["train"], report["held_out"]["validation"]) == (40, 20, 20)
    job = api.submit(**JUDGED)
    assert job["inputs"]["dataset"] == f"{api.user}/headlines@1"
    assert job["inputs"]["held_out"] == f"{api.user}/official@1"
    assert "fraction" not in job["spec"]["validation"]
    refused = api.client.delete("/v1/datasets/official")
    assert refused.status_code == 409 and job["id"] in refused.json()["error"]["message"]
    assert api.client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert api.client.delete("/v1/datasets/official").status_code == 200


def test_a_data_set_that_cannot_judge_is_refused_where_it_was_named(api: Api) -> None:
    api.import_model()
    api.push()
    unknown = api.client.post("/v1/jobs", json={**SPEC, **JUDGED})
    assert unknown.status_code == 422 and unknown.json()["error"]["problems"][0]["field"] == "validation.dataset"
    api.push("official", "headline,topic\nRates rise,good\n", "official.csv")
    lacking = api.client.post("/v1/jobs", json={**SPEC, **JUDGED})
    assert lacking.status_code == 422 and "official.csv" in lacking.json()["error"]["message"]
    assert api.client.get("/v1/jobs").json()["data"] == []

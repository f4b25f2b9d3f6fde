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
    assert lacking.json()["error"]["problems"][0]["field"] == "label"
    assert api.client.get("/v1/jobs").json()["data"] == []


def test_a_data_set_of_test_is_a_third_input_and_can_not_be_the_one_that_chooses(api: Api) -> None:
    api.import_model()
    api.push()
    api.push("official", OFFICIAL)
    api.push("dev", HEADLINES.replace("number", "of a dev number"))
    api.push("same", OFFICIAL)
    sections = {"validation": {"dataset": "dev@1"}, "test": {"dataset": "official@1"}}
    held = api.client.post("/v1/jobs/check", json={**SPEC, **sections}).json()["held_out"]
    assert (held["train"], held["validation"], held["choosing"]) == (20, 20, 20)
    job = api.submit(**sections)
    assert (job["inputs"]["held_out"], job["inputs"]["test"]) == (f"{api.user}/dev@1", f"{api.user}/official@1")
    refused = api.client.delete("/v1/datasets/official")
    assert refused.status_code == 409 and job["id"] in refused.json()["error"]["message"]
    unknown = api.client.post("/v1/jobs", json={**SPEC, "test": {"dataset": "nobody@1"}})
    assert unknown.status_code == 422 and unknown.json()["error"]["problems"][0]["field"] == "test.dataset"
    equal = api.client.post(
        "/v1/jobs", json={**SPEC, "validation": {"dataset": "same@1"}, "test": {"dataset": "official@1"}}
    )
    assert equal.status_code == 422 and equal.json()["error"]["problems"][0]["field"] == "test.dataset"
    assert api.client.post("/v1/jobs/estimate", json={**SPEC, **sections}).status_code == 200


def test_classes_that_only_judging_rows_have_are_named_where_no_row_was_dealt(api: Api) -> None:
    api.import_model()
    api.push("own", "headline,quality\n" + "".join(f"Text {n},{('gut', 'schlecht')[n % 2]}\n" for n in range(120)))
    api.push("part", "headline,quality\n" + "".join(f"Part {n},{'xy'[n % 2]}\n" for n in range(20)))
    spec = {**SPEC, "dataset": "own", "test": {"dataset": "part@1"}}
    (problem,) = api.client.post("/v1/jobs/check", json=spec).json()["problems"]
    assert problem["field"] == "label" and "'x', 'y'" in problem["message"]
    refused = api.client.post("/v1/jobs", json=spec)
    assert refused.status_code == 422 and "'x', 'y'" in refused.json()["error"]["message"]
    assert api.client.post("/v1/jobs/estimate", json=spec).status_code == 200


def test_rows_of_data_sets_of_one_file_name_are_told_by_owner_name_and_version(api: Api) -> None:
    api.import_model()
    api.push()
    api.push("official", OFFICIAL + " ,good\n")
    report = api.client.post("/v1/jobs/check", json={**SPEC, **JUDGED}).json()
    assert report["refused_rows"][0]["file"] == f"headlines.csv of {api.user}/official@1"

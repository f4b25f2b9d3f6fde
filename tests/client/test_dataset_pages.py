"""What is told of data sets without reading them again."""

from __future__ import annotations

from collections.abc import Callable

from tests.client.conftest import Outcome
from tests.client.documents import dataset
from tests.client.stub import StubPlatform

Run = Callable[..., Outcome]


def test_a_data_set_is_shown_with_what_was_recognised_and_noticed(platform: StubPlatform, run: Run) -> None:
    said = {"recognised": "files 2", "notices": ["b.csv: The first line looks like a row."]}
    files = [{"name": "a.csv", "rows": 2}, {"name": "b.csv", "rows": 1, "recognised": "tab, no quoting"}]
    platform.answers["GET /v1/datasets/headlines/versions/latest"] = (200, dataset(**said, files=files))
    platform.answers["GET /v1/datasets"] = (200, {"data": [dataset(**said), dataset(name="other")]})
    platform.answers["GET /v1/datasets/admin/headlines"] = (200, {"versions": [dataset(version=2), dataset()]})
    lines = run("datasets", "show", "headlines").out.splitlines()
    assert "recognised  files 2" in lines
    assert "versions    2, 1" in lines
    assert "notice: b.csv: The first line looks like a row." in lines
    assert "headline  text  0      1,000 or more" in lines
    assert "quality   text  1      2              good 2, bad 1" in lines
    assert "b.csv  1     tab, no quoting" in lines
    header, first, second = run("datasets", "list").out.splitlines()
    assert (header.split()[-1], first.split()[-1], second.split()[-1] != "1") == ("NOTICES", "1", True)
    platform.answers["GET /v1/datasets"] = (200, {"data": [dataset()]})
    assert "NOTICES" not in run("datasets", "list").out

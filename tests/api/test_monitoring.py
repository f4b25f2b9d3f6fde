"""Alerts and dashboard speak of metrics that there are. `make monitoring` has promtool judge the rules themselves."""

from __future__ import annotations

import re

import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.monitoring import dashboard
from tests.api.conftest import Api

FOLDER = dashboard.PATH.parent
#: What one family's samples are called, beside its own name.
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}


def rules() -> list[dict[str, str]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, str]] = group["rules"]
    return found


def test_alerts_and_dashboard_name_only_what_a_real_api_tells(api: Api) -> None:
    told = {
        family.name + suffix
        for family in text_string_to_metric_families(api.admin.get("/metrics").text)
        for suffix in SUFFIXES.get(family.type, ("",))
    }
    queries = [rule["expr"] for rule in rules()] + [
        query for _, _, lines in dashboard.PANELS for query in lines.values()
    ]
    named = {name for query in queries for name in re.findall(r"eigenwerk_\w+", query)}
    # Told only once a scheduler has led.
    told |= {"eigenwerk_scheduler_silent_seconds"}
    assert len(named) > 15
    assert named - told == set()


def test_each_alert_says_what_is_wrong_and_what_to_do_and_is_tested() -> None:
    tests = (FOLDER / "alerts_test.yml").read_text()
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "remedy"}, rule["alert"]
        assert f'alertname="{rule["alert"]}"' in tests, f"{rule['alert']} has no test in alerts_test.yml"


def test_the_dashboard_is_what_its_script_writes() -> None:
    assert dashboard.PATH.read_text() == dashboard.text(), "write it anew: python -m deploy.monitoring.dashboard"

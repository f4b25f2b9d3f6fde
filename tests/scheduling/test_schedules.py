"""Times of schedules: each once, whatever clocks do and however often, or late, somebody looks."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.cron import BadCron, Cron
from scheduling.schedules import ALL_MAX, GRACE, Missed, due

#: Changes by an hour in both hemispheres, by half an hour, none, and offsets that are no whole hours.
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "UTC"]
CRONS = [
    "30 2 * * *",
    "0 9 * * 1",
    "*/7 * * * *",
    "15 */5 * * *",
    "0 0 1 * *",
    "59 23 31 12 *",
    "0,30 1-3 * * *",
    "0 0 29 2 *",
]

crons = st.builds(Cron.parse, st.sampled_from(CRONS), st.sampled_from(ZONES))
moments = st.datetimes(datetime(2026, 1, 1), datetime(2029, 12, 31), timezones=st.just(UTC))


def times(cron: Cron, begin: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda time: time <= end, cron.after(begin)))


@given(crons, moments)
def test_times_rise_and_both_directions_agree(cron: Cron, moment: datetime) -> None:
    later = list(islice(cron.after(moment), 12))
    assert later == sorted(set(later)) and later[0] > moment
    assert list(islice(cron.until(later[-1]), 12)) == list(reversed(later))
    for time in later:
        assert next(cron.until(time)) == time
        assert next(cron.until(time - timedelta(seconds=1))) < time


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 0 * * *", "15 1 * * *", "59 3 * * *"])
def test_a_time_of_day_comes_once_on_every_day_whatever_clocks_do(zone: str, expression: str) -> None:
    cron = Cron.parse(expression, zone)
    found = times(cron, datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2027, 12, 31, 12, tzinfo=UTC))
    days = Counter(time.astimezone(ZoneInfo(zone)).date() for time in found)
    assert set(days.values()) == {1}
    assert len(days) == (max(days) - min(days)).days + 1


def test_a_time_that_does_not_exist_runs_at_the_change_and_one_that_exists_twice_the_first_time() -> None:
    cron = Cron.parse("30 2 * * *", "Europe/Berlin")
    assert next(cron.after(datetime(2027, 3, 27, 12, tzinfo=UTC))) == datetime(2027, 3, 28, 1, tzinfo=UTC)
    first, second = islice(cron.after(datetime(2027, 10, 30, 12, tzinfo=UTC)), 2)
    assert first == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    assert second.astimezone(ZoneInfo("Europe/Berlin")).date() == date(2027, 11, 1)


@given(crons, moments, st.lists(st.floats(1, 200_000), min_size=1, max_size=12), st.sampled_from(Missed))
@settings(deadline=None)
def test_looks_that_follow_each_other_run_no_time_twice(
    cron: Cron, begin: datetime, pauses_s: list[float], missed: Missed
) -> None:
    ran: list[datetime] = []
    now, next_at = begin, next(cron.after(begin))
    for pause_s in pauses_s:
        now += timedelta(seconds=round(pause_s))
        found = due(cron, next_at, now, missed)
        assert found.next_at > now
        assert all(next_at <= time <= now for time in found.times)
        assert len(found.times) <= (1 if missed is Missed.once else ALL_MAX)
        if missed is Missed.skip:
            assert all(now - time <= GRACE for time in found.times)
        ran += found.times
        next_at = found.next_at
    assert ran == sorted(set(ran))
    wanted = times(cron, begin, now)
    assert set(ran) <= set(wanted)
    if missed is not Missed.skip and wanted:
        assert wanted[-1] in ran


@given(crons, moments, st.integers(1, 40))
@settings(deadline=None)
def test_who_looks_often_runs_every_time_by_every_rule(cron: Cron, begin: datetime, looks: int) -> None:
    for missed in Missed:
        ran: list[datetime] = []
        now, next_at = begin, next(cron.after(begin))
        for _ in range(looks):
            now += timedelta(seconds=50)
            found = due(cron, next_at, now, missed)
            ran += found.times
            next_at = found.next_at
        assert ran == times(cron, begin, now)


def test_after_a_week_without_a_scheduler_the_rule_decides() -> None:
    cron, begin = Cron.parse("0 * * * *", "UTC"), datetime(2026, 3, 2, 0, 30, tzinfo=UTC)
    now = begin + timedelta(days=7)
    next_at = next(cron.after(begin))
    assert due(cron, next_at, now, Missed.skip).times == ()
    assert due(cron, next_at, now, Missed.once).times == (now - timedelta(minutes=30),)
    made_up = due(cron, next_at, now, Missed.all).times
    assert len(made_up) == ALL_MAX and made_up[-1] == now - timedelta(minutes=30)


@pytest.mark.parametrize(
    ("expression", "zone", "field"),
    [
        ("0 0 30 2 *", "UTC", "cron"),
        ("0 0 31 4,6,9,11 *", "UTC", "cron"),
        ("61 * * * *", "UTC", "cron"),
        ("* * * *", "UTC", "cron"),
        ("0 0 * * * *", "UTC", "cron"),
        ("@reboot", "UTC", "cron"),
        ("R * * * *", "UTC", "cron"),
        ("", "UTC", "cron"),
        ("every monday", "UTC", "cron"),
        ("0 9 * * 1", "Europe/Atlantis", "time_zone"),
        ("0 9 * * 1", "../../etc/passwd", "time_zone"),
        ("0 9 * * 1", "", "time_zone"),
    ],
)
def test_what_never_happens_or_means_nothing_is_refused_by_field(expression: str, zone: str, field: str) -> None:
    with pytest.raises(BadCron) as refused:
        Cron.parse(expression, zone)
    assert refused.value.field == field


def test_names_of_days_and_the_usual_short_forms_are_understood() -> None:
    assert next(Cron.parse("@daily", "UTC").after(datetime(2026, 1, 1, 1, tzinfo=UTC))).day == 2
    assert next(Cron.parse("0 9 * * thu", "UTC").after(datetime(2026, 1, 2, tzinfo=UTC))).day == 8

from __future__ import annotations

import pytest

from api.settings import ApiSettings
from storage.settings import NEEDED, Settings
from workers.daemon.host import HostConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"EIGENWERK_TABLE_ROWS_MAX": "1e8"},
        {"EIGENWERK_TABLE_SECONDS_PER_MB": "-3"},
        {"EIGENWERK_TABLE_BYTES_MAX": "0"},
        {"EIGENWERK_API_PORT": "http"},
        {"EIGENWERK_SLOTS": "two"},
        {"EIGENWERK_GPUS": "-1"},
        {"EIGENWERK_CHECK_SECONDS_MAX": "nan"},
        {"EIGENWERK_POLL_S": "-3"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_every_part_refuses_a_number_that_is_none_by_its_name_before_it_starts(wrong: dict[str, str]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value} is no"):
        Settings.from_environment({**dict.fromkeys(NEEDED, "-"), **wrong})


def test_numbers_are_taken_and_what_is_absent_or_empty_is_the_default() -> None:
    needed = dict.fromkeys(NEEDED, "-")
    settings = ApiSettings.from_environment({**needed, "EIGENWERK_TABLE_ROWS_MAX": "7", "EIGENWERK_API_PORT": ""})
    assert (settings.table_rows_max, settings.port) == (7, ApiSettings.port)
    assert HostConfig.from_environment({"EIGENWERK_SLOTS": "3"}).slots == 3

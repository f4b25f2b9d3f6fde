from __future__ import annotations

import logging
import sys

import pytest

from workers.local_models.on_demand import OnDemand


def test_a_library_is_imported_when_something_of_it_is_first_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    library = OnDemand("colorsys")
    assert "colorsys" not in sys.modules
    assert library.rgb_to_hsv(0.5, 0.5, 0.5) == (0.0, 0.0, 0.5)
    assert "colorsys" in sys.modules


def test_kernels_that_nobody_asked_for_are_not_missed_in_the_log_of_a_job(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "No module named 'kernels'")
    logger.warning("something else")
    assert caplog.messages == ["something else"]

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobspecs.events import LOG_LINE_CHARS_MAX
from workers.attempt.child_output import LOG_BURST_S, LOG_LINES_PER_S, LineSplitter, LogLimiter, printable


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_lines_do_not_depend_on_how_they_were_cut_into_pieces(text: bytes, cuts: list[int]) -> None:
    whole, pieces = LineSplitter(), LineSplitter()
    expected = whole.feed(text) + whole.finish()
    places = [0, *sorted(cuts), len(text)]
    found = [line for start, end in pairwise(places) for line in pieces.feed(text[start:end])]
    assert found + pieces.finish() == expected


@given(st.binary(max_size=300))
def test_a_log_line_is_always_harmless_text(line: bytes) -> None:
    text = printable(line)
    assert text.replace("\t", "").isprintable()
    assert len(text) <= LOG_LINE_CHARS_MAX


def test_a_progress_bar_becomes_lines() -> None:
    assert LineSplitter().feed(b"10%\r20%\r\n") == [b"10%", b"20%"]


def test_a_line_without_an_end_does_not_grow_for_ever() -> None:
    splitter = LineSplitter()
    lines = [line for _ in range(40) for line in splitter.feed(b"x" * 65_536)]
    assert len(lines) == 2


def test_a_flood_is_cut_and_its_loss_is_told_when_there_is_room_again() -> None:
    now = 0.0
    limiter = LogLimiter(lambda: now)
    burst = int(LOG_LINES_PER_S * LOG_BURST_S)
    admitted = [event for number in range(burst + 7) for event in limiter.admit(str(number))]
    assert len(admitted) == burst
    now = 1.0
    messages = [event.message for event in limiter.admit("later")]
    assert messages == ["7 log lines were dropped: the job writes too many.", "later"]

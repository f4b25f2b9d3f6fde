"""Tokens into text: half characters, spaces, stop strings."""

from __future__ import annotations

from collections.abc import Sequence

from workers.engines.embedded.generation.text_stream import TextStream


def decode(tokens: Sequence[int]) -> str:
    """Tokens are bytes of UTF-8."""
    return bytes(tokens).decode("utf-8", errors="replace")


def pieces(text: str, stop: Sequence[str] = (), prompt: str = "Hi ") -> tuple[list[str], str | None]:
    stream = TextStream(decode, prompt.encode(), stop)
    shown = []
    for byte in text.encode():
        shown.append(stream.show(stream.grow(byte).text))
        if stream.stopped_by is not None:
            return shown, stream.stopped_by
    return [*shown, stream.show(stream.finish()) + stream.release()], None


def test_a_character_is_shown_once_all_of_its_bytes_are_there() -> None:
    assert pieces("aäz")[0] == ["a", "", "ä", "z", ""]
    assert pieces("😀")[0] == ["", "", "", "😀", ""]


def test_what_may_become_a_stop_string_waits_and_is_shown_when_it_does_not() -> None:
    assert pieces("abcabd", ["abd"]) == (["", "", "abc", "", "", ""], "abd")
    assert pieces("abca", ["abd"]) == (["", "", "abc", "", "a"], None)


def test_the_first_of_several_stop_strings_counts() -> None:
    shown, stopped_by = pieces("one two three", ["three", "two"])
    assert ("".join(shown), stopped_by) == ("one ", "two")


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    stream = TextStream(decode, b"x", [])
    assert stream.grow(0xC3).text == ""
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


def test_a_text_completes_the_character_that_its_prompt_ends_in() -> None:
    stream = TextStream(decode, [*b"x", 0xC3])
    assert [stream.grow(byte).text for byte in (0xA4, *b"z")] == ["ä", "z"]


def test_what_other_tokens_would_add_is_told_where_it_is_whole() -> None:
    stream = TextStream(decode, b"x")
    assert (stream.would_grow(ord("y")), stream.would_grow(0xC3)) == ("y", None)
    stream.grow(0xC3)
    assert stream.would_grow(0xA4) is None

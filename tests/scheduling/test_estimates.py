from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobspecs.profile import tokens_at_most
from scheduling.estimates import (
    RUNTIME_BYTES,
    serving_memory_bytes,
    training_memory_bytes,
)

MINILM_WEIGHTS_BYTES = 90_900_000
BERT_BASE_WEIGHTS_BYTES = 440_000_000
sizes = st.integers(min_value=1, max_value=10**10)


def test_a_small_encoder_fits_a_laptop_and_bert_base_needs_more() -> None:
    small = training_memory_bytes(MINILM_WEIGHTS_BYTES, batch_size=32, tokens_per_text=64)
    base = training_memory_bytes(BERT_BASE_WEIGHTS_BYTES, batch_size=32, tokens_per_text=64)
    assert 1.5 * 2**30 < small < 2.5 * 2**30
    assert 3 * 2**30 < base < 6 * 2**30


@given(weights=sizes, batch=st.integers(1, 4096), tokens=st.integers(8, 8192))
def test_more_of_anything_never_takes_less(weights: int, batch: int, tokens: int) -> None:
    estimate = training_memory_bytes(weights, batch_size=batch, tokens_per_text=tokens)
    assert estimate >= RUNTIME_BYTES + 4 * weights - 16
    assert training_memory_bytes(2 * weights, batch_size=batch, tokens_per_text=tokens) >= estimate
    assert training_memory_bytes(weights, batch_size=batch + 1, tokens_per_text=tokens) >= estimate
    assert training_memory_bytes(weights, batch_size=batch, tokens_per_text=tokens + 1) >= estimate


def test_texts_are_counted_up_to_the_length_at_which_they_are_cut() -> None:
    assert tokens_at_most(longest_chars=100, max_length=128) == 52
    assert tokens_at_most(longest_chars=10_000, max_length=128) == 128


def test_serving_holds_the_weights_twice_while_they_load() -> None:
    assert serving_memory_bytes(MINILM_WEIGHTS_BYTES) > 2 * MINILM_WEIGHTS_BYTES

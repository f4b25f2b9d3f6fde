"""Which share moves to a host that has none: one at a time, and none ever back."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from scheduling.serving_admission import Needs
from scheduling.share_moves import SETTLED_S, PlacedShare, share_to_take

HAS = frozenset({"embedded"})
ROOM = Needs(8, 1)


def share(number: int, host: str | None = "old", answers_s: float | None = SETTLED_S, **more: object) -> PlacedShare:
    placed = PlacedShare(UUID(int=number), 1, number, host, Needs(8), "embedded", answers_s)
    return replace(placed, **more)  # type: ignore[arg-type]


def taken(shares: list[PlacedShare], room: Needs = ROOM, lives_s: float = SETTLED_S) -> int | None:
    found = share_to_take(shares, "new", room, HAS, lives_s=lives_s)
    return None if found is None else found.number


def test_a_host_without_a_share_takes_the_last_one_of_the_host_with_the_most() -> None:
    assert taken([share(0), share(1)]) == 1
    assert taken([share(0), share(1), share(2), share(3, "other"), share(4, "other")]) == 2
    assert taken([share(0), share(1, "other")]) is None, "each has one"
    assert taken([share(0)]) is None
    assert taken([share(0), share(1), share(2, "new")]) is None, "it has one"


def test_nothing_moves_before_host_and_shares_have_settled() -> None:
    assert taken([share(0), share(1)], lives_s=SETTLED_S - 1) is None
    for unsettled in (None, SETTLED_S - 1):
        assert taken([share(0), share(1), share(2, "other", unsettled)]) is None, "another share moves or starts"


def test_a_host_takes_what_it_has_room_and_the_engine_for() -> None:
    assert taken([share(0), share(1, needs=Needs(9))]) == 0
    assert taken([share(0, needs=Needs(8, 2)), share(1, needs=Needs(8, 2))]) is None
    assert taken([share(0, engine="vllm"), share(1, engine="vllm")]) is None


@given(
    homes=st.lists(st.sampled_from("abcde"), min_size=1, max_size=8),
    rooms=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 20), max_size=8),
    needs=st.lists(st.integers(1, 20), min_size=8, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_hosts_that_take_in_any_order_come_to_rest_and_no_share_moves_twice(
    homes: list[str], rooms: dict[str, int], needs: list[int], order: object
) -> None:
    shares = [share(number, host, needs=Needs(needs[number])) for number, host in enumerate(homes)]
    moved: set[int] = set()
    hosts = sorted(rooms)
    while True:
        order.shuffle(hosts)  # type: ignore[attr-defined]
        found = ((host, share_to_take(shares, host, Needs(rooms[host]), HAS, lives_s=SETTLED_S)) for host in hosts)
        host, next_one = next(((host, one) for host, one in found if one is not None), ("", None))
        if next_one is None:
            break
        assert next_one.number not in moved
        moved.add(next_one.number)
        assert sum(one.host == next_one.host for one in shares) > 1, "nobody is left without a share"
        shares[next_one.number] = replace(next_one, host=host)
    served = {one.host for one in shares}
    assert served >= set(homes)
    assert len(moved) == len(served) - len(set(homes))

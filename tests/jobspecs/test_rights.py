from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import get_args
from uuid import UUID

import pytest

from jobspecs.rights import INCLUDES, RULES, SCOPES, Action, NotAllowed, Principal, Scope, Visibility, decide

ME, MY_TEAM, SOMEBODY = UUID(int=1), UUID(int=2), UUID(int=3)
OWNERS = {"own": ME, "team": MY_TEAM, "shared": SOMEBODY, "others": SOMEBODY, "platform": None}

#: Action -> the least scope for what is one's own, for what others share, for others' and for the platform's; "-":
#: nobody may, nor is what is shared anything else than others'.
#: Written out once more: whoever changes who may do what says so twice.
TABLE = """
    batches.read       read   -      -      -
    batches.write      write  -      -      -
    datasets.delete    write  -      -      -
    datasets.read      read   read   -      -
    datasets.write     write  -      -      -
    deployments.ask    read   -      -      -
    deployments.read   read   -      -      -
    deployments.write  write  -      -      -
    hosts.drain        -      -      -      admin
    hosts.read         -      -      -      read
    hub_tokens.read    read   -      -      -
    hub_tokens.write   write  -      -      -
    jobs.boost         admin  -      admin  -
    jobs.cancel        write  -      admin  -
    jobs.check         read   -      -      -
    jobs.delete        write  -      admin  -
    jobs.pause         write  -      admin  -
    jobs.read          read   -      admin  -
    jobs.retry         write  -      admin  -
    jobs.submit        write  -      -      -
    limits.read        read   -      admin  -
    limits.write       admin  -      admin  -
    metrics.read       -      -      -      metrics
    models.delete      write  -      -      -
    models.read        read   read   -      -
    models.write       write  -      -      -
    schedules.read     read   -      -      -
    schedules.write    write  -      -      -
    schemas.read       -      -      -      read
    tokens.read        read   -      admin  -
    tokens.write       write  -      admin  -
    usage.read         read   -      admin  -
    users.create       -      -      -      admin
    users.list         -      -      -      admin
    users.delete       admin  -      admin  -
    users.read         read   -      -      -
    webhooks.read      read   -      -      -
    webhooks.write     write  -      -      -
"""
CELLS = {action: needed for action, *needed in (line.split() for line in TABLE.strip().splitlines())}


@dataclass(frozen=True)
class Thing:
    """A model, as far as rights know it."""

    owner_id: UUID
    visibility: Visibility


def principal(*scopes: Scope) -> Principal:
    return Principal(ME, "ada", frozenset(scopes), acts_for=frozenset({ME, MY_TEAM}))


def test_every_action_has_a_rule_and_every_rule_an_action() -> None:
    assert sorted(CELLS) == sorted(RULES) == sorted(get_args(Action))


@pytest.mark.parametrize(("scopes", "action", "whose"), list(product([(), *((s,) for s in SCOPES)], RULES, OWNERS)))
def test_each_cell_allows_what_the_table_says_and_nothing_else(
    scopes: tuple[Scope, ...], action: Action, whose: str
) -> None:
    own, shared, others, platform = CELLS[action]
    needed = {"own": own, "team": own, "others": others, "platform": platform, "shared": shared}[whose]
    if whose == "shared" and needed == "-":
        needed = others
    includes: dict[str, list[str]] = {
        **{"read": ["read"], "write": ["read", "write"]},
        **{"metrics": ["metrics"], "join": ["join"], "admin": ["read", "write", "metrics", "join", "admin"]},
    }
    expected = any(needed in includes[held] for held in scopes)
    visibility: Visibility = "everyone" if whose == "shared" else "private"
    found = decide(principal(*scopes), action, OWNERS[whose], visibility)
    assert found.allowed == expected
    relation = "own" if whose == "team" else "others" if whose == "shared" and shared == "-" else whose
    assert found.reason == (relation if expected else "nobody_may" if needed == "-" else "scope")
    owner = OWNERS[whose]
    if owner is not None:
        reach = principal(*scopes).reach(action)
        assert reach.includes(Thing(owner, visibility)) == expected, "repositories keep to what is decided here"
        assert not reach.own.includes(Thing(SOMEBODY, visibility))
    if expected:
        assert principal(*scopes).may_try(action)


def test_what_is_not_declared_is_denied() -> None:
    unknown: Action = "jobs.forge"  # type: ignore[assignment]
    admin = principal("admin")
    for owner in OWNERS.values():
        decision = decide(admin, unknown, owner)
        assert (decision.allowed, decision.reason) == (False, "undeclared")
    assert not admin.may_try(unknown)
    assert ME not in admin.reach(unknown)


def test_who_may_make_nothing_is_told_so() -> None:
    assert principal("write").reach("jobs.submit").maker == ME
    with pytest.raises(NotAllowed):
        _ = principal("read").reach("jobs.submit").maker


def test_a_scope_includes_itself() -> None:
    assert set(INCLUDES) == set(SCOPES)
    assert all(scope in included for scope, included in INCLUDES.items())

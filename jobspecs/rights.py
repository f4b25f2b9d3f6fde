"""Who may do what, as data. Whoever reads or changes what belongs to somebody asks here, and nobody else decides.

Everything belongs to an *owner*: a user, one day a team. A principal (a user behind a token) acts for some owners.
`RULES` names, for each action, the scope that its token needs on what is its own, on what others share, on what is
others' otherwise, and on what is nobody's but the platform's. What is not declared is denied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol, get_args
from uuid import UUID

from jobspecs.limits import UNSAID, RequestLimits

#: `metrics` is for who watches the platform: it opens figures and nothing that anybody owns. `join` opens no route: it
#: lets a worker on another machine join.
Scope = Literal["read", "write", "metrics", "join", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: A scope, and what it includes.
INCLUDES: Mapping[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "metrics": frozenset({"metrics"}),
    "join": frozenset({"join"}),
    "admin": frozenset({"read", "write", "metrics", "join", "admin"}),
}

Action = Literal[
    "batches.read",
    "batches.write",
    "datasets.delete",
    "datasets.read",
    "datasets.write",
    "deployments.ask",
    "deployments.read",
    "deployments.write",
    "hosts.drain",
    "hosts.read",
    "hub_tokens.read",
    "hub_tokens.write",
    "jobs.boost",
    "jobs.cancel",
    "jobs.check",
    "jobs.delete",
    "jobs.pause",
    "jobs.read",
    "jobs.retry",
    "jobs.submit",
    "limits.read",
    "limits.write",
    "metrics.read",
    "models.delete",
    "models.read",
    "models.write",
    "schedules.read",
    "schedules.write",
    "schemas.read",
    "tokens.read",
    "tokens.write",
    "usage.read",
    "users.create",
    "users.delete",
    "users.list",
    "users.read",
    "webhooks.read",
    "webhooks.write",
]
#: Who may read a thing beside its owner: nobody, or everyone on this platform. Writing stays the owner's.
Visibility = Literal["private", "everyone"]
#: Whose the thing is: an owner's that the principal acts for, another's who shares it or does not, or nobody's.
Relation = Literal["own", "shared", "others", "platform"]


@dataclass(frozen=True, slots=True)
class Rule:
    """The scope that an action needs by whose the thing is. None: nobody may."""

    own: Scope | None = None
    #: On what its owner, another one, lets everyone read.
    shared: Scope | None = None
    others: Scope | None = None
    platform: Scope | None = None

    @property
    def least(self) -> Scope:
        """The scope without which the action is never allowed, whatever it is done to."""
        named = [scope for scope in (self.own, self.shared, self.others, self.platform) if scope is not None]
        return min(named, key=SCOPES.index)


RULES: Mapping[Action, Rule] = {
    "batches.read": Rule(own="read"),
    "batches.write": Rule(own="write"),
    "datasets.delete": Rule(own="write"),
    "datasets.read": Rule(own="read", shared="read"),
    "datasets.write": Rule(own="write"),
    "deployments.ask": Rule(own="read"),
    "deployments.read": Rule(own="read"),
    "deployments.write": Rule(own="write"),
    "hosts.drain": Rule(platform="admin"),
    "hosts.read": Rule(platform="read"),
    "hub_tokens.read": Rule(own="read"),
    "hub_tokens.write": Rule(own="write"),
    "jobs.boost": Rule(own="admin", others="admin"),
    "jobs.cancel": Rule(own="write", others="admin"),
    "jobs.check": Rule(own="read"),
    "jobs.delete": Rule(own="write", others="admin"),
    "jobs.pause": Rule(own="write", others="admin"),
    "jobs.read": Rule(own="read", others="admin"),
    "jobs.retry": Rule(own="write", others="admin"),
    "jobs.submit": Rule(own="write"),
    "limits.read": Rule(own="read", others="admin"),
    "limits.write": Rule(own="admin", others="admin"),
    "metrics.read": Rule(platform="metrics"),
    "models.delete": Rule(own="write"),
    "models.read": Rule(own="read", shared="read"),
    "models.write": Rule(own="write"),
    "schedules.read": Rule(own="read"),
    "schedules.write": Rule(own="write"),
    "schemas.read": Rule(platform="read"),
    "tokens.read": Rule(own="read", others="admin"),
    "tokens.write": Rule(own="write", others="admin"),
    "usage.read": Rule(own="read", others="admin"),
    "users.create": Rule(platform="admin"),
    "users.delete": Rule(own="admin", others="admin"),
    "users.list": Rule(platform="admin"),
    "users.read": Rule(own="read"),
    "webhooks.read": Rule(own="read"),
    "webhooks.write": Rule(own="write"),
}


class NotAllowed(Exception):
    """The principal may not do this. The message is for people."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason`: why it is allowed (whose the thing is) or denied: `undeclared`, `nobody_may`, `scope`."""

    allowed: bool
    reason: Relation | Literal["undeclared", "nobody_may", "scope"]


class Shareable(Protocol):
    """What an owner may let others read."""

    @property
    def owner_id(self) -> UUID: ...

    @property
    def visibility(self) -> Visibility: ...


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose things one action may touch; repositories read and change nothing outside it."""

    #: The owner that is meant where none is named: `name` instead of `owner/name`.
    home: UUID
    owners: frozenset[UUID]
    everybody: bool = False
    #: Whether what other owners share with everyone is in it too.
    shared: bool = False

    def __contains__(self, owner: UUID) -> bool:
        """Whether all that the owner has is in it."""
        return self.everybody or owner in self.owners

    def includes(self, thing: Shareable) -> bool:
        return thing.owner_id in self or (self.shared and thing.visibility == "everyone")

    @classmethod
    def of(cls, owner: UUID) -> Reach:
        """One owner's things: for the platform's own processes, which act for the owner of a job or deployment."""
        return cls(owner, frozenset({owner}))

    @property
    def with_shared(self) -> Reach:
        """The same and what others share with everyone."""
        return replace(self, shared=True)

    @property
    def own(self) -> Reach:
        """The same without others' things: what a list shows unless more is asked for."""
        return Reach(self.home, self.owners)

    @property
    def maker(self) -> UUID:
        """The owner of what is made. Raises NotAllowed when nothing may be made."""
        if self.home not in self.owners:
            raise NotAllowed("Your token does not allow this.")
        return self.home


@dataclass(frozen=True)
class Principal:
    """The user behind a token, what the token allows, and the owners it acts for."""

    user_id: UUID
    name: str
    scopes: frozenset[Scope]
    #: Owners whose things count as the user's own; the user is one of them.
    acts_for: frozenset[UUID]
    #: When the token ends; None: never.
    expires_at: datetime | None = None
    #: How much the user may ask, where the platform's limits are not to hold.
    limits: RequestLimits = UNSAID

    @property
    def actor(self) -> str:
        """How the user is named in a job's history: as text, which outlives the user."""
        return f"user:{self.name}"

    def holds(self, scope: Scope) -> bool:
        return any(scope in INCLUDES[held] for held in self.scopes)

    def may_try(self, action: Action) -> bool:
        """Whether there is anything that the token allows the action on."""
        return action in RULES and self.holds(RULES[action].least)

    def reach(self, action: Action) -> Reach:
        """Whose things the action may touch: exactly the owners for which `decide` allows it."""
        own = frozenset(owner for owner in self.acts_for if decide(self, action, owner).allowed)
        rule = RULES.get(action, Rule())
        return Reach(
            self.user_id,
            own,
            everybody=rule.others is not None and self.holds(rule.others),
            shared=rule.shared is not None and self.holds(rule.shared),
        )


def decide(principal: Principal, action: Action, owner: UUID | None, visibility: Visibility = "private") -> Decision:
    """Whether the principal may do this to what `owner` has; None: to what is the platform's."""
    rule = RULES.get(action)
    if rule is None:
        return Decision(False, "undeclared")
    relation: Relation = "platform" if owner is None else "own" if owner in principal.acts_for else "others"
    if relation == "others" and visibility == "everyone" and rule.shared is not None:
        relation = "shared"
    needed: Scope | None = getattr(rule, relation)
    if needed is None:
        return Decision(False, "nobody_may")
    return Decision(True, relation) if principal.holds(needed) else Decision(False, "scope")

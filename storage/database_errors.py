"""What can be wrong with the database as a whole."""

from __future__ import annotations


class DatabaseUnavailable(Exception):
    """PostgreSQL does not answer. Nothing was changed as far as is known; try again with the same idempotency key."""


class OwnerGone(Exception):
    """Nothing was made: its owner was deleted at this moment."""


class DatabaseFull(DatabaseUnavailable):
    """PostgreSQL has no room on its disk. Nothing was changed; it works again once there is room."""


class SchemaMismatch(DatabaseUnavailable):
    """The database's schema is not one that this code can work with. Nothing was read or changed.

    Unavailable, as one that runs while the schema changes waits and says why: it may be changed back.
    """

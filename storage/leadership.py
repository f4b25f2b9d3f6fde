"""Which of several schedulers leads: an advisory lock of PostgreSQL, and a heartbeat by the database's clock.

The lock ends with its connection, so a scheduler that dies or loses its host is replaced. One that only hangs keeps its
connection; the heartbeat tells, and a follower ends the connection. A leader that comes to life again finds it gone
and follows; what it had begun does no harm, as jobs are given away by compare-and-set.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

#: Key of the advisory lock that the one leading scheduler holds.
LEADER_LOCK = 0x45_49_47_45

# In one statement, so that no follower sees the new leader's lock beside the old one's heartbeat for long.
_ACQUIRE = """
WITH lock AS MATERIALIZED (SELECT pg_try_advisory_lock(%(key)s) AS held)
INSERT INTO scheduler_leader (id, name, since, beat_at)
SELECT 1, %(name)s, clock_timestamp(), clock_timestamp() FROM lock WHERE held
ON CONFLICT (id) DO UPDATE SET name = excluded.name, since = excluded.since, beat_at = excluded.beat_at
RETURNING true
"""
_DEPOSE = """
SELECT pg_terminate_backend(lock.pid) FROM pg_locks AS lock, scheduler_leader AS leader
WHERE lock.locktype = 'advisory' AND lock.granted AND lock.classid = 0 AND lock.objid = %(key)s AND lock.objsubid = 1
AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND leader.beat_at < clock_timestamp() - make_interval(secs => %(silent_s)s)
"""
_BEAT = """
UPDATE scheduler_leader
SET beat_at = clock_timestamp(), ticks = ticks + %(ticks)s, ticks_s = ticks_s + %(ticks_s)s
"""


@dataclass(frozen=True)
class Leadership:
    """A connection of its own that can lead. `name` says in the database who it is; a leader without a heartbeat for
    `silent_s` is deposed."""

    connection: psycopg.Connection
    name: str
    silent_s: float

    def acquire(self) -> bool:
        """Whether this connection now leads. Call it until it does."""
        return self.connection.execute(_ACQUIRE, {"key": LEADER_LOCK, "name": self.name}).fetchone() is not None

    def depose_silent(self) -> bool:
        """Ends the connection of a leader that gave no heartbeat for `silent_s`; whether there was one."""
        answer = self.connection.execute(_DEPOSE, {"key": LEADER_LOCK, "silent_s": self.silent_s}).fetchone()
        return answer is not None

    def beat(self, *, ticks: int = 0, ticks_s: float = 0.0) -> None:
        """The heartbeat of the leader, and the looks at the queue since the last one, with the seconds they took.

        Raises psycopg.OperationalError when the connection, and the lock, is gone.
        """
        self.connection.execute(_BEAT, {"ticks": ticks, "ticks_s": ticks_s})

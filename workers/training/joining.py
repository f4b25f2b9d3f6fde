"""How a process of a job finds the others, and the engine by which they train together."""

from __future__ import annotations

from workers.run.context import RankPlace
from workers.training.distributed import Ranks
from workers.training.world import ALONE, World
from workers.training.zero import ZeroRanks, check_deepspeed


def world_of(place: RankPlace | None) -> World:
    """Joins the other processes of the job, if it has any; all must call it.

    Raises RunFailed(unsatisfiable) where the engine that the spec names can't run.
    """
    if place is None:
        return ALONE
    if place.mode in ("zero2", "zero3"):
        check_deepspeed(place)
        return ZeroRanks(place)
    return Ranks(place)

"""The hub token that counts for what an owner fetches."""

from __future__ import annotations

import logging
from uuid import UUID

from storage.database import UnitOfWork
from storage.secret_box import KEY_VARIABLE, SecretBox, SecretUnreadable

log = logging.getLogger(__name__)


def hub_token(work: UnitOfWork, box: SecretBox | None, owner_id: UUID) -> str | None:
    """The owner's own; None where there is none, or where it can't be opened, which the log says."""
    row = work.hub_tokens.get(owner_id)
    if row is None:
        return None
    if box is None:
        log.warning("the hub token of %s is not used: %s is not set here", owner_id, KEY_VARIABLE)
        return None
    try:
        return box.open(owner_id, row.sealed)
    except SecretUnreadable as error:
        log.warning("the hub token of %s is not used: %s", owner_id, error)
        return None

"""Secrets of users as tables keep them: sealed with a key of the platform, which is in no table."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class CantOpen(Exception):
    """It was sealed with a key that this platform does not have. The message is for people."""


class Sealer:
    """Seals with the first of the keys and opens with any: a new key goes before the old one, which goes later."""

    def __init__(self, keys: Sequence[str], purpose: str) -> None:
        """`purpose`: what is sealed for one can't be opened for another."""
        derived = (hmac.digest(key.encode(), f"eigenwerk {purpose}".encode(), hashlib.sha256) for key in keys)
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])

    def seal(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises CantOpen."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise CantOpen(
                "The secret was sealed with another key: EIGENWERK_SECRET_KEYS, or the object store's secret, has "
                "changed. Put the old key behind the new one, or make the webhook anew."
            ) from error

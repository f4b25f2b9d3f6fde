"""Seals what users entrust to the platform, with a key that is not in the database.

AES-256-GCM, bound to its owner: what is copied into another owner's row opens for nobody.
"""

from __future__ import annotations

import base64
import binascii
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Names the key in the environment of the API and of workers: 32 bytes as URL-safe base64.
KEY_VARIABLE = "EIGENWERK_SECRETS_KEY"
_KEY_BYTES, _NONCE_BYTES = 32, 12


class SecretUnreadable(Exception):
    """It was sealed with another key, for another owner, or is damaged. The message is for people."""


class SecretBox:
    """Seals and opens with one key."""

    def __init__(self, key: str) -> None:
        """Raises ValueError for what is no key."""
        try:
            raw = base64.urlsafe_b64decode(key.rstrip("=") + "=")
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != _KEY_BYTES:
            raise ValueError(f"{KEY_VARIABLE} is no key: it takes 32 random bytes as URL-safe base64.")
        self._cipher = AESGCM(raw)

    def seal(self, owner_id: UUID, secret: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), owner_id.bytes)

    def open(self, owner_id: UUID, sealed: bytes) -> str:
        """Raises SecretUnreadable."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner_id.bytes).decode()
        except (InvalidTag, ValueError) as error:
            raise SecretUnreadable(
                f"It was sealed with another {KEY_VARIABLE} than this one, or is damaged."
            ) from error

"""Beginnings of prompts that have been read before: their keys and values, piece by piece.

A piece is known by the digest of all tokens up to its end, so what is found is what reading it would have made, bit for
bit: pieces begin and end at the same places in every prompt.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch


def digest_of(before: bytes, tokens: Sequence[int]) -> bytes:
    """Of a beginning that goes on with these tokens; `before`: its own, empty for none."""
    return hashlib.blake2b(before + array("q", tokens).tobytes(), digest_size=32).digest()


class Prefixes:
    """What was used least recently goes first."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        #: Tokens of all pieces.
        self.tokens = 0

    def get(self, digest: bytes) -> torch.Tensor | None:
        """Keys and values as `KeysValues.append` takes them."""
        return self._pieces.get(digest)

    def add(self, digest: bytes, piece: torch.Tensor) -> None:
        if digest not in self._pieces:
            self._pieces[digest] = piece
            self.tokens += piece.shape[3]

    def used(self, digests: Iterable[bytes]) -> None:
        """`digests`: of the pieces of a prompt that was read, first to last. The first shall be the last to go."""
        for digest in reversed(list(digests)):
            if digest in self._pieces:
                self._pieces.move_to_end(digest)

    def shrink(self, tokens: int) -> None:
        """Drops pieces until so many tokens are left at most."""
        while self._pieces and self.tokens > tokens:
            _, piece = self._pieces.popitem(last=False)
            self.tokens -= piece.shape[3]

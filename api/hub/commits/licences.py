"""The licence that a pushed README.md names."""

from __future__ import annotations

from collections.abc import Mapping

from api.hub.contents import Content, stored
from api.parts import Parts
from jobspecs.manifest import CARD
from jobspecs.provenance import CARD_BYTES_READ, license_of_card


def license_of(parts: Parts, files: Mapping[str, Content]) -> str | None:
    """None where there is no card, or it names none. Waits for the object store."""
    card = files.get(CARD)
    if card is None or card.bytes == 0:
        return None
    file = stored(parts, [(CARD, card)])[CARD]
    with parts.objects.open_stored(file, 0, min(file.bytes, CARD_BYTES_READ)) as beginning:
        return license_of_card(b"".join(beginning))

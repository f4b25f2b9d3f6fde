"""Deleting many objects with one request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

from storage.object_errors import ObjectStoreRefused
from storage.object_wire import S3Wire, parsed_xml, xml_all, xml_text

#: S3 deletes at most this many objects in one request.
DELETE_BATCH = 1000


def delete_batch(wire: S3Wire, keys: Iterable[str]) -> None:
    """Deletes at most DELETE_BATCH objects. Raises ObjectStoreRefused for the first that can't be deleted."""
    document = Element("Delete")
    SubElement(document, "Quiet").text = "true"
    for key in keys:
        SubElement(SubElement(document, "Object"), "Key").text = key
    body = tostring(document)
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    headers = {"Content-MD5": base64.b64encode(digest).decode()}  # the protocol asks for it
    answer = parsed_xml(wire.request("POST", query={"delete": ""}, headers=headers, body=body))
    for error in xml_all(answer, "Error"):
        code = xml_text(error, "Code")
        raise ObjectStoreRefused(code, f"The object store didn't delete {xml_text(error, 'Key')!r}: {code}.")

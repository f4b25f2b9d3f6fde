"""What belongs to an owner, in URLs: `{name:owned}` in a route's path is `name` or `owner/name`, as in references."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query
from starlette.convertors import StringConvertor, register_url_convertor

from api.errors import not_found
from jobspecs.references import OWNED_NAME_PATTERN, Reference, parse_owned_name
from jobspecs.rights import Reach
from storage.database import UnitOfWork


class _OwnedName(StringConvertor):
    """One or two segments. Anything may stand in them: what is no name gets a 422 that says so."""

    regex = "[^/]+(?:/[^/]+)?"


register_url_convertor("owned", _OwnedName())


async def _reference(
    name: Annotated[str, Path(pattern=f"^{OWNED_NAME_PATTERN}$", description="yours, or owner/name")],
) -> Reference:
    return parse_owned_name(name)


#: Whether a list has what others let everyone read too.
Shared = Annotated[bool, Query(description="also what others share with everyone")]

#: The thing that the path names, without a version.
TheNamed = Annotated[Reference, Depends(_reference)]


def maker_of(work: UnitOfWork, reach: Reach, reference: Reference) -> UUID:
    """Who will own what is made under this name. Raises NotAllowed, and ApiError 404 for an owner out of reach."""
    if reference.owner is None:
        return reach.maker
    owner = work.owners.find(reach, reference.owner)
    if owner is None:
        raise not_found(f"owner {reference.owner}")
    return owner.id

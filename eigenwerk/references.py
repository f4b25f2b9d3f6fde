"""References as the client reads them: what is no reference is refused before anything is sent."""

from __future__ import annotations

from eigenwerk.errors import EigenwerkError
from jobspecs.references import Reference, parse_owned_name, parse_reference


def parsed(text: str) -> Reference:
    """`name`, `owner/name`, either with `@3` or `@alias`. Raises EigenwerkError."""
    try:
        return parse_reference(text)
    except ValueError as error:
        raise EigenwerkError(f"{error}.") from error


def numbered_path(wanted: Reference, reference: str) -> str:
    """The end of a version's path; empty where all are meant. Raises EigenwerkError for an alias, which moves."""
    if wanted.alias is not None:
        raise EigenwerkError(f"{reference} names no number. Write which version is meant: {wanted.name}@3")
    return "" if wanted.version is None else f"/versions/{wanted.version}"


def path_of(kind: str, named: Reference | str) -> str:
    """Where the API has it: `/v1/datasets/ada/headlines`. A text is `name` or `owner/name`. Raises EigenwerkError."""
    try:
        reference = named if isinstance(named, Reference) else parse_owned_name(named)
    except ValueError as error:
        raise EigenwerkError(f"{error}.") from error
    return f"/v1/{kind}/" + (f"{reference.owner}/" if reference.owner else "") + reference.name

"""/v1/registry/models/…/lineage and …/card: what is known of a version beyond its files."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from api.authentication import TheUser, guarded_router, requires
from api.documented import ErrorAnswer, of_type
from api.parts import ThePlatform
from api.registry import cards, comparing
from api.registry.endpoints import Name, Selector
from api.registry.lineage import ModelLineage, lineage
from api.registry.service import selected
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference, parse_reference

router = guarded_router("registry")

#: Cards hold texts of others, and pictures may be opened alone: nothing in them is run.
_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
_MARKDOWN, _SVG = "text/markdown; charset=utf-8", "image/svg+xml"

#: Models are named in the query, and files are read.
_OF_COMPARISONS: dict[int | str, Any] = {404: {"model": ErrorAnswer}, 429: {"model": ErrorAnswer}}

_VERSION = "/v1/registry/models/{owner}/{name}/versions/{selector}"


@router.get(f"{_VERSION}/lineage")
@requires("models.read")
def get_lineage(platform: ThePlatform, user: TheUser, owner: Name, name: Name, selector: Selector) -> ModelLineage:
    """Job, spec, code, data and models that it was made from; versions that were made from it; deployments of yours."""
    return lineage(platform, user, selected(owner, name, selector))


@router.get(f"{_VERSION}/card", response_class=Response, responses={200: of_type("text/markdown")})
@requires("models.read")
async def get_card(platform: ThePlatform, user: TheUser, owner: Name, name: Name, selector: Selector) -> Response:
    """The model card in Markdown: facts, data, curves, limits, how to ask it, and the card that came with its files.

    Pictures are linked relatively, as `card/loss.svg`.
    """
    text = await platform.lookups.run(partial(cards.render, platform, user, selected(owner, name, selector)))
    return Response(text, media_type=_MARKDOWN, headers=_HEADERS)


@router.get(f"{_VERSION}/{cards.PICTURES}/{{picture}}", response_class=Response, responses={200: of_type(_SVG)})
@requires("models.read")
def get_picture(
    platform: ThePlatform,
    user: TheUser,
    owner: Name,
    name: Name,
    selector: Selector,
    picture: Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,200}\.svg$", description="as the card links it")],
) -> Response:
    """A curve of the card."""
    drawn = cards.picture(platform, user, selected(owner, name, selector), picture)
    return Response(drawn, media_type=_SVG, headers=_HEADERS)


@router.get("/v1/registry/comparison", responses=_OF_COMPARISONS)
@requires("models.read")
async def compare_models(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    first: Annotated[str, Query(max_length=400, description="name@version, or owner/name@version")],
    second: Annotated[str, Query(max_length=400)],
) -> comparing.ModelComparison:
    """Two versions: what differs in their specs, their figures, and on the same rows which flipped."""
    return await comparing.compare(platform, request, user, _named("first", first), _named("second", second))


def _named(field: str, text: str) -> Reference:
    """Raises InvalidInput."""
    try:
        reference = parse_reference(text)
    except ValueError as error:
        raise InvalidInput([Problem(field=field, message=f"{error}.", remedy="Write name@version.")]) from error
    if reference.source != "registry":
        message = f"{text} is a hub's model."
        raise InvalidInput([Problem(field=field, message=message, remedy="Name a model of the registry.")])
    return reference

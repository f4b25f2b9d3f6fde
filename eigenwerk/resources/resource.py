"""Anything that the platform answers. Fields of newer servers are kept and not interpreted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Resource(BaseModel):
    """Anything that the API returns."""

    model_config = ConfigDict(frozen=True, extra="allow")

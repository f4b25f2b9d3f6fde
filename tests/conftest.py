"""What every test may ask for."""

from __future__ import annotations

from tests.infrastructure import (
    _template_url,
    database_url,
    empty_database_url,
    forget_settings,
    object_settings,
    redis_url,
    services,
)

__all__ = ["_template_url", "database_url", "empty_database_url", "object_settings", "redis_url", "services"]

forget_settings()

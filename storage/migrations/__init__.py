"""Alembic migrations. `storage.migrate` applies them."""

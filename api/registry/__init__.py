"""The registry: models, versions, aliases, files, imports."""

"""One file per job kind. The registry is `jobspecs.registry`."""

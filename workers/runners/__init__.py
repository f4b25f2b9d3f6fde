"""One file per job kind. A runner is a function `run(context) -> Manifest`; the registry is `workers.runners.registry`."""

"""One file per job kind. A runner is a function `run(context) -> Manifest`; `workers.runners.registry` lists them."""

"""Pipelines: what each does next is decided by `scheduling.pipelines` and done in one transaction."""

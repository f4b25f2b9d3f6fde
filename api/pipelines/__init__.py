"""Pipelines: submit, check, look, cancel, retry."""

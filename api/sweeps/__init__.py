"""Sweeps: submit, check, look, cancel."""

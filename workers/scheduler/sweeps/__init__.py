"""Sweeps: what each does next is decided by `scheduling.sweeps` and done in one transaction."""

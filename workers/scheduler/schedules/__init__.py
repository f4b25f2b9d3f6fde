"""Schedules: which times are due is decided by `scheduling.schedules`; each is run in the transaction that notes it."""

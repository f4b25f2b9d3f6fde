"""Schedules: specs that are submitted at times."""

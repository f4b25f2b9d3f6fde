"""Data sets: sent, fetched, listed and shown."""

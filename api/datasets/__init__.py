"""Data sets: push, list, look."""

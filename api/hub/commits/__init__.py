"""Commits of a push, and how the last one makes a version."""

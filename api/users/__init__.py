"""Users and their bearer tokens."""

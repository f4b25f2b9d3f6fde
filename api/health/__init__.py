"""Whether the platform works, and its figures."""

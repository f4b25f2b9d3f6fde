"""Deployments: what is wanted, what hosts serve of it, and how it answers."""

"""Deployments, and what is asked of them."""

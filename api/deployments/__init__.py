"""Deployments: which model version is served, and how."""

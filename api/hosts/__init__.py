"""Hosts: what workers offer, and why one takes no jobs."""

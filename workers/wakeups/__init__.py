"""Celery, and nothing but wake-ups: how a host hears at once that there is something to look at."""

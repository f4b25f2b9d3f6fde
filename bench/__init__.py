"""Figures of the platform: each module measures one, by itself, with `python -m bench.<name>`."""

"""Trains embedders: data, losses, negatives and the card."""

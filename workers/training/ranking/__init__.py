"""Trains cross-encoders: data, losses, negatives and the card."""

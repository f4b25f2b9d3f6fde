"""Trains text classifiers."""

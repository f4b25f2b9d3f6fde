"""Pairs scored by a teacher: a cross-encoder, or a language model asked for yes or no."""

"""Causal language models: sequences without padding, loss without logits, adapters, preferences, and their verdict."""

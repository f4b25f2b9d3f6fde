"""Webhooks: where users want to be told of events, and what came of telling them."""

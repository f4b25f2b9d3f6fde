"""Errands: what the platform sends to addresses that its users name. Deliveries of webhooks, so far."""

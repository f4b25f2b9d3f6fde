"""How Eigenwerk is run."""

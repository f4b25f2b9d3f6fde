"""Users, their tokens of a hub, and what becomes of their things when they go."""

"""People: users and their tokens, what they share, and where they are told of events."""

"""The scheduler: a loop that takes a snapshot, applies what `scheduling.decide` says, and relays what was committed."""

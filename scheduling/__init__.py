"""Pure decisions: a snapshot goes in, actions come out. No I/O and no clock."""

"""Jobs: submit, look, cancel, watch."""

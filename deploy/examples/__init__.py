"""`make example`: runs the commands at the head of a file in `examples/`, on a platform of its own."""

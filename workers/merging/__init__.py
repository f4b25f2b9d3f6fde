"""Models made of others' weights: what is read, what is computed, what is written, tensor by tensor."""

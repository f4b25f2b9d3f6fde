"""The serve-parity gate: what was made of a model is loaded in the engine that will serve it, and compared with it."""

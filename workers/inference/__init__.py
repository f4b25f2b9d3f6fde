"""The inference worker: makes what is deployed true on its host."""

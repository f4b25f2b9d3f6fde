"""The JSON Schema of each job kind."""

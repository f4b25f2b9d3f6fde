"""The contract: job specs, states, events and manifests. Pure pydantic; imports nothing heavier."""

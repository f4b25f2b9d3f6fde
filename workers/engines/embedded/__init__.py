"""The embedded engine: transformers in a process of its own, behind HTTP."""

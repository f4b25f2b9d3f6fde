"""Embeddings by a deployed model, in OpenAI's shape."""

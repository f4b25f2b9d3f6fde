"""Data for language models: recognised in the shapes that people have it in, and rendered as a model will see it."""

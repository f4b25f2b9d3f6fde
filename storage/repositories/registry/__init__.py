"""Data sets and models, what they consist of, and what is deleted of them."""

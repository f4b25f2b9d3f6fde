"""Registered models at work on the rows of a data set: what they say of each, kept as it comes."""

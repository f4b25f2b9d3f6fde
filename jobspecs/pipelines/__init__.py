"""Pipelines: jobs in a row whose references name earlier ones, with conditions on what these measured. Pure."""

"""Sweeps: one spec with many values in some of its fields, and the best of them found by what was measured. Pure."""

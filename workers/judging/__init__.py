"""Was the training worth it? Verdicts with intervals, and the cheap systems that a model is compared with."""

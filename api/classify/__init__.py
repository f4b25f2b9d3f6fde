"""Classification by a deployed model."""

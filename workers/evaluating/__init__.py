"""Models at work on rows whose right answers are known: what each says, and how good that is."""

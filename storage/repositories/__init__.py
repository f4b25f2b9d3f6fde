"""One repository per noun. They flush but never commit: `storage.database` does."""

"""One repository per noun, in rooms. They flush but never commit: `storage.database` does."""

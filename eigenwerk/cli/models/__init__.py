"""Models, and all that is said, shown and fetched of them."""

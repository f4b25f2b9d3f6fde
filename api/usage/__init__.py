"""What is used: bytes in the object store."""

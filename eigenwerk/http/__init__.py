"""HTTP with the platform: requests, and answers that come as streams."""

"""Text generation: several answers grow at once, token by token, on one thread."""

"""Jobs: their queue, their attempts and what these leave, and what submits them."""

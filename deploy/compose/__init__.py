"""The platform in containers: one image, and what has to be said before it starts."""

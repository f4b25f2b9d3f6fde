"""Files on this machine, and on their way to the platform and from it."""

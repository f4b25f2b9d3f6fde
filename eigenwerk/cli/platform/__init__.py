"""The platform itself: how it is run, its hosts, its environments and what it stores."""

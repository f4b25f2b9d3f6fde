"""The platform as tools of the Model Context Protocol: a client of the public API, so the rights of its token hold."""

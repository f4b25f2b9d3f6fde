"""References of specs and deployments, frozen to digests: models of the registry and of a hub, data sets."""

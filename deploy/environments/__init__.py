"""Runner environments: libraries that can't share the platform's own, each locked in a file here."""

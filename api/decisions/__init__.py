"""SGLang's /v1/decisions, answered by deployed classifiers."""

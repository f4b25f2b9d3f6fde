"""OpenAI's /v1/responses, answered through chat completions. Nothing is kept between requests."""

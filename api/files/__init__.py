"""/v1/files and /v1/uploads: data sets, and files of requests, as OpenAI's clients send them."""

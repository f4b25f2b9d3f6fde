"""/v1/batches: files of requests to deployed models."""

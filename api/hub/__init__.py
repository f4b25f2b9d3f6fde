"""/hf: the registry as clients of Hugging Face's hub know one, with `HF_ENDPOINT=…/hf` and a token as `HF_TOKEN`."""

"""vLLM: language models on GPUs or a CPU, adapters loaded while it serves."""

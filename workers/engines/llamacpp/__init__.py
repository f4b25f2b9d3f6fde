"""llama.cpp: GGUF files as they are."""

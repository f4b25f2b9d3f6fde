"""text-generation-inference: language models as its transformers 4.51 reads them."""

"""Text generation by deployed language models, in OpenAI's shapes and in those of text-generation-inference."""

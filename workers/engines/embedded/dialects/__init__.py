"""Shapes of requests and answers: OpenAI's, text-generation-inference's and text-embeddings-inference's."""

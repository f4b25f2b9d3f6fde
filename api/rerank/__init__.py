"""Ranking of documents by a deployed reranker, in the shapes of Jina and Cohere."""

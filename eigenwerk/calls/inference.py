"""What a client asks of deployed models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eigenwerk.http.chat_stream import pieces_of_chat
from eigenwerk.http.transport import Transport, given
from eigenwerk.resources.answers import ChatAnswer, Classification, Embeddings, Ranking


class InferenceCalls:
    """The half of a Client that talks to models. A deployment that is not ready raises EigenwerkError at once."""

    _transport: Transport

    def classify(self, name: str, texts: Sequence[str], *, top_k: int | None = None) -> Classification:
        """Sorts texts (at most 1,024) into the classes of a deployed classifier."""
        body = given(model=name, input=list(texts), top_k=top_k)
        answer = self._transport.call("POST", "/v1/classify", json=body, repeatable=True, patient=False)
        return Classification.model_validate(answer)

    def embed(
        self,
        name: str,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        prompt_name: str | None = None,
        truncate: bool | None = None,
    ) -> Embeddings:
        """One vector per text (at most 2,048), by a deployed embedder. `prompt_name`: a prompt of the model's.

        A text that is longer than the model reads raises EigenwerkError, unless `truncate` has it cut.
        """
        body = given(model=name, input=list(texts), dimensions=dimensions, prompt_name=prompt_name, truncate=truncate)
        answer = self._transport.call("POST", "/v1/embeddings", json=body, repeatable=True, patient=False)
        return Embeddings.model_validate(answer)

    def rerank(self, name: str, query: str, documents: Sequence[str], *, top_n: int | None = None) -> Ranking:
        """Orders documents (at most 1,024) by how well they answer the query, with a deployed reranker."""
        body = given(model=name, query=query, documents=list(documents), top_n=top_n, return_documents=False)
        answer = self._transport.call("POST", "/v1/rerank", json=body, repeatable=True, patient=False)
        return Ranking.model_validate(answer)

    def chat(self, name: str, messages: Sequence[Mapping[str, Any]], **settings: Any) -> ChatAnswer:
        """A deployed language model's answer to a conversation: [{"role": "user", "content": "..."}, ...].

        `settings` are OpenAI's: max_tokens, temperature, top_p, seed, stop.
        """
        body = given(model=name, messages=[dict(message) for message in messages], **settings)
        return ChatAnswer.model_validate(self._transport.call("POST", "/v1/chat/completions", json=body, patient=False))

    def stream_chat(self, name: str, messages: Sequence[Mapping[str, Any]], **settings: Any) -> Iterator[str]:
        """As `chat`, piece by piece as the model writes. Closing the iterator ends the model's work."""
        body = given(model=name, messages=[dict(message) for message in messages], stream=True, **settings)
        return pieces_of_chat(self._transport, body)

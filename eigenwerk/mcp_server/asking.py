"""Tools that ask deployed models. They change nothing but the use that is counted."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from pydantic import Field

from eigenwerk.mcp_server.answers import Answer, Clients, answered, said_plainly

#: Digits of a similarity or of a vector's number.
_DIGITS = 4

Deployed = Annotated[str, Field(description="a deployment: NAME or OWNER/NAME; see `list_deployments`")]
Texts = Annotated[list[str], Field(min_length=1, max_length=32)]


class Asking:
    """Each method is a tool."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def chat(
        self,
        context: Context,
        deployment: Deployed,
        prompt: Annotated[str, Field(min_length=1)],
        system: Annotated[str | None, Field(description="what goes before the conversation")] = None,
        max_tokens: Annotated[int, Field(ge=1, le=4096)] = 512,
        temperature: Annotated[float | None, Field(ge=0, le=2)] = None,
    ) -> Answer:
        """Asks a deployed language model. What it answers is its own, not the platform's."""
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        settings = {"temperature": temperature} if temperature is not None else {}
        with said_plainly(), self._clients(context) as client:
            found = client.chat(deployment, messages, max_tokens=max_tokens, **settings)
        told = {"answer": found.text, "finish_reason": found.choices[0].finish_reason, "usage": found.usage}
        return answered({"model": found.model, **told})

    def classify(self, context: Context, deployment: Deployed, texts: Texts) -> Answer:
        """Sorts texts into the classes of a deployed classifier, the likeliest first."""
        with said_plainly(), self._clients(context) as client:
            return answered(client.classify(deployment, texts, top_k=5))

    def rerank(self, context: Context, deployment: Deployed, query: str, documents: Texts) -> Answer:
        """Orders documents by how well they answer the query, with a deployed reranker."""
        with said_plainly(), self._clients(context) as client:
            return answered(client.rerank(deployment, query, documents))

    def embed(
        self,
        context: Context,
        deployment: Deployed,
        texts: Texts,
        vectors: Annotated[bool, Field(description="the vectors too, of four texts at most")] = False,
    ) -> Answer:
        """How alike texts are by a deployed embedder: the cosine of each pair, from -1 to 1."""
        with said_plainly(), self._clients(context) as client:
            found = client.embed(deployment, texts[:4] if vectors else texts).vectors
        alike = [[round(sum(a * b for a, b in zip(one, two, strict=True)), _DIGITS) for two in found] for one in found]
        told: Answer = {"dimensions": len(found[0]), "similarities": alike}
        if vectors:
            # Lists of numbers of one vector are longer than any other list: as a text each is whole.
            told["vectors"] = [" ".join(f"{number:.{_DIGITS}f}" for number in one) for one in found]
        return answered(told)


ASKING = {
    "chat": "Ask a language model",
    "classify": "Classify texts",
    "rerank": "Order documents",
    "embed": "Compare texts",
}

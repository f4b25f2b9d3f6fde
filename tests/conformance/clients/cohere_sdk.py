"""What Cohere's SDK asks of a running platform: rerank and embed, version 2."""

from __future__ import annotations

from typing import Any

import cohere
from cohere.errors import NotFoundError, UnauthorizedError, UnprocessableEntityError

from tests.conformance.steps import DIMENSIONS, EMBEDDER, RERANKER, TOKEN, URL, holds, near, refused, run, same, step

CLIENT: Any = cohere.ClientV2(api_key=TOKEN, base_url=URL)
QUERY = "Where is bread near the bakery?"
DOCUMENTS = ["You find a cat at the sofa.", "You find bread at the bakery.", "You find snow at the hill."]


@step("rerank")
def documents_are_ranked() -> None:
    answer = CLIENT.rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS)
    same(sorted(item.index for item in answer.results), [0, 1, 2])
    scores = [item.relevance_score for item in answer.results]
    same(scores, sorted(scores, reverse=True))
    same(answer.results[0].index, 1)


@step("rerank(top_n, max_tokens_per_doc)")
def the_best_are_given() -> None:
    answer = CLIENT.rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS, top_n=1, max_tokens_per_doc=8)
    same(len(answer.results), 1)
    holds(answer.meta.billed_units.search_units, "units", answer.meta)


@step("rerank(documents=objects)")
def documents_may_be_objects() -> None:
    objects = [{"text": text, "id": str(number)} for number, text in enumerate(DOCUMENTS)]
    answer = CLIENT.rerank(model=RERANKER, query=QUERY, documents=objects)
    same(answer.results[0].index, 1)


@step("embed")
def texts_become_vectors() -> None:
    said = {"model": EMBEDDER, "texts": ["a cat", "a dog"], "input_type": "search_document"}
    answer = CLIENT.embed(**said, embedding_types=["float"])
    same([len(vector) for vector in answer.embeddings.float_], [DIMENSIONS] * 2)
    near(sum(number**2 for number in answer.embeddings.float_[0]), 1)
    same(answer.texts, ["a cat", "a dog"])


@step("embed(output_dimension, truncate, embedding_types=base64)")
def vectors_may_be_shorter_and_packed() -> None:
    said = {"model": EMBEDDER, "texts": ["a cat " * 400], "input_type": "classification", "output_dimension": 64}
    answer = CLIENT.embed(**said, embedding_types=["float", "base64"], truncate="END")
    same(len(answer.embeddings.float_[0]), 64)
    holds(answer.embeddings.base64[0], "a packed vector", answer.embeddings)


@step("embed(inputs)")
def texts_may_be_inputs_of_several_parts() -> None:
    inputs = [{"content": [{"type": "text", "text": "a cat"}]}]
    answer = CLIENT.embed(model=EMBEDDER, inputs=inputs, input_type="search_document", embedding_types=["float"])
    same(len(answer.embeddings.float_), 1)


@step("errors")
def refusals_have_their_kinds() -> None:
    refused(NotFoundError, lambda: CLIENT.rerank(model="absent", query=QUERY, documents=DOCUMENTS))
    refused(UnprocessableEntityError, lambda: CLIENT.rerank(model=RERANKER, query=QUERY, documents=[]))
    stranger: Any = cohere.ClientV2(api_key="wrong", base_url=URL)
    refused(UnauthorizedError, lambda: stranger.rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS))


if __name__ == "__main__":
    run()

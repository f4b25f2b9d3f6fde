"""text-embeddings-inference's /tokenize: how the model's tokenizer takes texts apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tokenizers import Tokenizer

from jobspecs.dialects import TEI
from jobspecs.dialects import Request as Asked
from workers.engines.embedded.dialects.requests import Refused, invalid, read

#: Most texts in one request.
TEXTS_MAX = 2048
#: Tokens are four bytes to the library.
_TOKEN_BOUND = 1 << 32


class TokenizeBody(Asked):
    """POST /tokenize."""

    dialect = TEI

    inputs: str | list[str] = Field(max_length=1 << 21)
    add_special_tokens: bool = True
    prompt_name: str | None = None


class TokenizeRoute:
    """Reads a tokenizer of its own when it is first asked: the model's cuts texts, and belongs to another thread."""

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir

    def routes(self) -> list[Route]:
        return [Route("/tokenize", self._tokenize, methods=["POST"])]

    async def _tokenize(self, request: Request) -> Response:
        body = await read(TokenizeBody, request)
        if body.prompt_name is not None:
            raise invalid("prompt_name", "write the prompt before the text instead.")
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        if not 1 <= len(texts) <= TEXTS_MAX:
            raise invalid("inputs", f"send 1 to {TEXTS_MAX} texts.")
        return JSONResponse(await run_in_threadpool(self._taken_apart, texts, body.add_special_tokens))

    def _taken_apart(self, texts: list[str], add_special_tokens: bool) -> list[list[dict[str, Any]]]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
        return [
            [
                {
                    "id": number,
                    "text": token if special else text[start:stop],
                    "special": bool(special),
                    "start": None if special else start,
                    "stop": None if special else stop,
                }
                for number, token, special, (start, stop) in zip(
                    encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
                )
            ]
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    async def texts_of(self, field: str, items: Sequence[str | list[int]]) -> list[str]:
        """Texts as they are, and those that came as tokens of this model, without special tokens, put together.

        Raises Refused for tokens that the model would read otherwise: they are another tokenizer's.
        """
        if all(isinstance(item, str) for item in items):
            return [item for item in items if isinstance(item, str)]
        return await run_in_threadpool(
            lambda: [
                item if isinstance(item, str) else self._text(f"{field}[{place}]" if len(items) > 1 else field, item)
                for place, item in enumerate(items)
            ]
        )

    def _text(self, field: str, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False) if max(tokens) < _TOKEN_BOUND else ""
        if not text or self._tokenizer.encode(text, add_special_tokens=False).ids != tokens:
            raise invalid(field, "these are no tokens of a text as this model's tokenizer makes them. Send the text.")
        return text

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        # A static embedder keeps it in a folder of its module.
        path = next(iter(sorted(self._model_dir.rglob("tokenizer.json"), key=lambda path: len(path.parts))), None)
        if path is None:
            raise Refused(422, "Tokenizer", "This model has no tokenizer.json.")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

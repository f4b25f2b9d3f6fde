"""Fields of requests that other services know and not every engine reads, as data: one table per dialect.

Every field of a request is read, or stands here with what it may say, or is refused by its name. Those that are
refused would change answers elsewhere; nobody gets another answer than was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


@dataclass(frozen=True)
class Dialect:
    """What a request may hold although nothing reads it."""

    #: These change no answer, whatever they say.
    harmless: frozenset[str] = frozenset()
    #: Field -> values with which it asks for what happens anyway; null always does.
    idle: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def passes_over(self, name: str, value: Any) -> bool:
        return name in self.harmless or (name in self.idle and (value is None or value in self.idle[name]))

    def not_served(self, name: str, value: Any) -> InitErrorDetails:
        """The refusal of a field that stands in `idle` and asks for something else."""
        or_say = "".join(f", or say {json.dumps(said)}" for said in self.idle[name])
        words = PydanticCustomError(
            "not_served", "{words}", {"words": f"this field is known, but it isn't served here: leave it out{or_say}"}
        )
        return InitErrorDetails(type=words, loc=(name,), input=value)


class Request(BaseModel):
    """A body of which every field is read, or known to its dialect; any other one is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    dialect: ClassVar[Dialect] = Dialect()

    @model_validator(mode="before")
    @classmethod
    def what_is_read(cls, document: Any) -> Any:
        """The document without what its dialect passes over. Raises ValidationError for what it knows and can't do."""
        if not isinstance(document, Mapping):
            return document
        read = {
            name: value
            for name, value in document.items()
            if name in cls.model_fields or not cls.dialect.passes_over(name, value)
        }
        asked = [name for name in cls.dialect.idle if name in read and name not in cls.model_fields]
        if asked:
            refusals = [cls.dialect.not_served(name, read[name]) for name in asked]
            raise ValidationError.from_exception_data(cls.__name__, refusals)
        return read


#: Accounts, caches and queues of other services.
_BOOKKEEPING = frozenset({"user", "metadata", "priority", "request_id", "safety_identifier"})
_OPENAI_HARMLESS = _BOOKKEEPING | {
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "prediction",
    "parallel_tool_calls",
    "cache_salt",
    "cache_prompt",
    "id_slot",
}
#: OpenAI's, vLLM's, SGLang's, llama.cpp's and TGI's.
_OPENAI_IDLE: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_whitespace_pattern": (),
    "guided_decoding_backend": (),
    "structured_outputs": (),
    "structural_tag": (),
    "grammar": ("",),
    "json_schema": (),
    "regex": (),
    "ebnf": (),
    "min_p": (0,),
    "typical_p": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "best_of": (1,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "logits_processors": ([],),
    "mirostat": (0,),
    "lora": ([],),
    "adapter_id": (),
}
OPENAI_CHAT = Dialect(
    _OPENAI_HARMLESS,
    {
        **_OPENAI_IDLE,
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "tool_prompt": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "moderation": (),
        "reasoning_effort": (),
        "reasoning": (),
        "verbosity": (),
        "web_search_options": (),
        "echo": (False,),
        "add_generation_prompt": (True,),
        "add_special_tokens": (False,),
        "continue_final_message": (False,),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "documents": ([],),
        "include_reasoning": (True, False),
    },
)
OPENAI_COMPLETION = Dialect(
    _OPENAI_HARMLESS, {**_OPENAI_IDLE, "suffix": ("",), "add_special_tokens": (True,), "prompt_embeds": ()}
)
OPENAI_RESPONSES = Dialect(
    _OPENAI_HARMLESS - {"store"},
    {
        "truncation": ("disabled",),
        "reasoning": (),
        "prompt": (),
        "max_tool_calls": (),
        "moderation": (),
        "context_management": (),
    },
)
OPENAI_STREAM = Dialect(frozenset({"include_obfuscation"}), {"continuous_usage_stats": (False,)})
OPENAI_PART = Dialect(frozenset({"cache_control"}), {"annotations": ([],)})
#: What the assistant's messages say when they come back; other fields are for the model's template.
OPENAI_MESSAGE = Dialect(
    # Of a tool's answer: where a template doesn't read it, the order tells which call it answers.
    frozenset({"id", "tool_call_id"}),
    {
        "refusal": ("",),
        "annotations": ([],),
        "audio": (),
        "tool_calls": ([],),
        "function_call": (),
        "reasoning": ("",),
        "reasoning_content": ("",),
        "name": (),
    },
)
OPENAI_EMBEDDINGS = Dialect(
    _BOOKKEEPING,
    {
        "add_special_tokens": (True,),
        "normalize": (True,),
        "normalized": (True,),
        "use_activation": (True,),
        "embedding_type": ("float",),
        "task": (),
        "input_type": (),
        "instruction": (),
        "late_chunking": (False,),
        "truncate_prompt_tokens": (),
        "endianness": ("native", "little"),
        "embed_dtype": ("float32",),
    },
)
#: Jina's, vLLM's and llama.cpp's.
JINA_RERANK = Dialect(
    _BOOKKEEPING,
    {
        "instruction": (),
        "truncate_prompt_tokens": (),
        "max_chunks_per_doc": (),
        "max_doc_length": (),
        "return_embeddings": (False,),
        "use_activation": (True,),
        "raw_scores": (False,),
        "add_special_tokens": (True,),
        "rank_fields": (["text"],),
    },
)
COHERE_RERANK = Dialect(
    _BOOKKEEPING, {"return_documents": (False,), "rank_fields": (["text"],), "max_chunks_per_doc": ()}
)
COHERE_EMBED = Dialect(_BOOKKEEPING, {"images": ([],), "max_tokens": ()})
#: SGLang's, of language models; a classifier has no prompt.
DECISIONS = Dialect(
    _BOOKKEEPING,
    {
        "images": ([],),
        "chat_template_kwargs": ({},),
        "prompt_format_version": (),
        "return_prompt_token_ids": (False,),
    },
)
#: vLLM's /classify.
CLASSIFY = Dialect(
    _BOOKKEEPING, {"truncate_prompt_tokens": (), "add_special_tokens": (True,), "use_activation": (True,)}
)
#: text-embeddings-inference's routes, as Hugging Face's clients ask them.
TEI = Dialect(frozenset({"options"}), {"parameters": ({},), "pooling": (), "encoding_format": ("float",)})
TGI = Dialect(frozenset({"options"}), {"adapter_id": ()})
TGI_PARAMETERS = Dialect(
    frozenset(),
    {
        "best_of": (1,),
        "typical_p": (1,),
        "watermark": (False,),
        "decoder_input_details": (False,),
        "grammar": (),
        "adapter_id": (),
        "num_beams": (1,),
        "num_return_sequences": (1,),
        "stop_sequences": ([],),
    },
)

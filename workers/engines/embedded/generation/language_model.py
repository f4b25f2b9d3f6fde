"""A causal language model in a local folder, loaded into this process: what generation needs of it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from corpus.conversations.chat_template import RenderingError
from corpus.conversations.control_tokens import ControlTokens
from corpus.conversations.template_process import ConfinedTemplate
from corpus.conversations.template_words import TemplateWords
from scheduling.estimates.serving import CACHED_TOKENS_MAX
from workers.engines.embedded.generation.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from workers.local_models.base_model import first_line, invalid_model, load_causal_lm, load_tokenizer, read_json
from workers.local_models.devices import move_to
from workers.local_models.on_demand import OnDemand

#: Six seconds that every engine would take to start, and only adapters need.
peft: Any = OnDemand("peft")

_TOKENIZER = "tokenizer_config.json"
#: Text that one conversation may become: twice the largest body. Tokenizers read a million characters in a second.
_RENDERED_CHARS_MAX = 4_000_000


#: How tokenizers of SentencePiece's kind name a byte, and how they write a space.
_BYTE_TOKEN, _SPACE_MARK = re.compile("<0x([0-9A-Fa-f]{2})>"), "\N{LOWER ONE EIGHTH BLOCK}"
#: GPT-2's alphabet: bytes that are printable stand for themselves, the others for the letters from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES_OF_LETTERS = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + place): byte for place, byte in enumerate(byte for byte in range(0x100) if byte not in _PRINTABLE)
}


class NoChatTemplate(Exception):
    """The model continues texts and knows no conversations."""


class ChatTemplateFailed(Exception):
    """The model's template does not take these messages; the message is the template's own."""


@dataclass(frozen=True)
class LanguageModel:
    """A model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    #: Tokens of prompt and answer together, at most.
    context_tokens: int
    #: Any of these ends a text.
    end_tokens: frozenset[int]
    device: torch.device
    #: Settings of the folder's generation_config.json for requests that leave them out.
    defaults: Mapping[str, float]
    #: None: the model knows no conversations.
    template: ConfinedTemplate | None = None

    @classmethod
    def load(cls, directory: Path, threads: int = 1, base_dir: Path | None = None) -> LanguageModel:
        """Loads the model in `directory`, or the adapter there over the model in `base_dir`, which it is merged into.

        fp32 on the CPU, bf16 on a GPU that has it. Raises RunFailed(invalid_model) for what is no language model.
        """
        torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        adapter = (directory / ADAPTER_CONFIG).is_file()
        if adapter and base_dir is None:
            raise invalid_model("this is an adapter, and the model that it changes is not there.")
        loaded = load_causal_lm(
            cast(Path, base_dir) if adapter else directory, torch.bfloat16 if bf16 else torch.float32
        )
        model, tokenizer = loaded.model, loaded.tokenizer
        if adapter:
            model = _merged(model, directory)
            # One that was trained with a template of its own brings it along.
            tokenizer = load_tokenizer(directory) if (directory / _TOKENIZER).is_file() else tokenizer
        return cls(
            model=cast(PreTrainedModel, move_to(model, device).eval()),
            tokenizer=tokenizer,
            context_tokens=min(loaded.max_tokens, CACHED_TOKENS_MAX),
            end_tokens=_end_tokens(model, tokenizer),
            device=device,
            defaults=_defaults(model),
            template=confined_template(tokenizer),
        )

    def close(self) -> None:
        """Ends the template's process."""
        if self.template is not None:
            self.template.close()

    @property
    def keeps_last_logits(self) -> bool:
        """Whether the model can leave out the logits of all positions but the last."""
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    @property
    def example(self) -> torch.Tensor:
        """A tensor of the type that the model computes in, where it computes."""
        return torch.empty(0, dtype=self.model.dtype, device=self.device)

    @property
    def vocabulary_size(self) -> int:
        return int(cast(torch.nn.Embedding, self.model.get_input_embeddings()).num_embeddings)

    def encode(self, text: str) -> list[int]:
        """The tokens of a plain prompt, with those that the tokenizer puts before a text."""
        return list(self.tokenizer(text)["input_ids"])

    def encode_spans(self, text: str) -> list[tuple[int, int, int]]:
        """(token, first character, behind the last one) of each token; tokens that stand for no text have 0, 0."""
        encoded = self.tokenizer(text, return_offsets_mapping=self.tokenizer.is_fast)
        offsets = encoded.get("offset_mapping") or [(0, 0)] * len(encoded["input_ids"])
        return [(token, start, stop) for token, (start, stop) in zip(encoded["input_ids"], offsets, strict=True)]

    def render_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """A conversation that the model shall answer, as its template writes it, for `encode_rendered`.

        `tools`: those on offer, as OpenAI writes them.

        Control tokens within messages are marked as the text that they are: nobody can forge a turn.

        The template runs confined, in a process of its own. Raises NoChatTemplate and ChatTemplateFailed.
        """
        if self.template is None:
            raise NoChatTemplate("This model has no chat template: it continues texts. Use /v1/completions.")
        try:
            control = self._control_tokens
            said = (list(messages), list(tools))
            text = self.template.render(*(control.marked(said) if control is not None else said))
        except RenderingError as error:
            [problem] = error.problems
            raise ChatTemplateFailed(
                f"The model's chat template does not take these messages: {problem.message}"
            ) from error
        if len(text) > _RENDERED_CHARS_MAX:
            raise ChatTemplateFailed(
                f"The model's chat template makes {len(text):,} characters of these messages; "
                f"{_RENDERED_CHARS_MAX:,} at most are read."
            )
        return text

    def template_knows(self, field: str) -> bool:
        """Whether the model's template reads such a field of a message; a model without one is told so later."""
        return self.template is None or field in self._template_words.fields

    def template_knows_role(self, role: str) -> bool:
        """Whether it tells such a role from others."""
        return self.template is None or role in self._template_words.roles

    @cached_property
    def _template_words(self) -> TemplateWords:
        return TemplateWords.of(str(self.tokenizer.get_chat_template()))

    def encode_rendered(self, text: str) -> list[int]:
        """The tokens of what a template has written; it writes the special tokens itself."""
        as_text: frozenset[int] = frozenset()
        if self._control_tokens is not None:
            text, as_text = self._control_tokens.unmarked(text)
        if self._control_tokens is None or not as_text:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        # Both may stand in a tokenizer.json; transformers sets them anew with each call of its own.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        return self._control_tokens.encoded(text, as_text)[0]

    @cached_property
    def _control_tokens(self) -> ControlTokens | None:
        """None for a tokenizer in Python, which has none of the library's."""
        return ControlTokens(self.tokenizer.backend_tokenizer) if self.tokenizer.is_fast else None

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token_text(self, token: int) -> str:
        """One token by itself, special ones spelled out."""
        return str(self.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for, where it begins or ends within a character."""
        piece = str(self.tokenizer.convert_ids_to_tokens(token))
        if named := _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(named[1], 16)])
        if self._spells_bytes and all(letter in _BYTES_OF_LETTERS for letter in piece):
            return bytes(_BYTES_OF_LETTERS[letter] for letter in piece)
        return piece.replace(_SPACE_MARK, " ").encode()

    @cached_property
    def _spells_bytes(self) -> bool:
        """Whether tokens are written in the letters of GPT-2's byte-level alphabet."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return backend is not None and "ByteLevel" in json.dumps(json.loads(backend.to_str())["decoder"])

    def is_special(self, token: int) -> bool:
        return token in self.end_tokens or token in self.tokenizer.all_special_ids


def own_tokenizer(base: LanguageModel, adapter_dir: Path) -> LanguageModel | None:
    """The model as an adapter speaks with it that was trained with a tokenizer of its own; None for any other."""
    if not (adapter_dir / _TOKENIZER).is_file():
        return None
    tokenizer = load_tokenizer(adapter_dir)
    return replace(
        base,
        tokenizer=tokenizer,
        end_tokens=_end_tokens(base.model, tokenizer),
        template=confined_template(tokenizer),
    )


def confined_template(tokenizer: PreTrainedTokenizerBase) -> ConfinedTemplate | None:
    """The tokenizer's chat template in a process of its own; None when it has none."""
    if not tokenizer.chat_template:
        return None
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}
    return ConfinedTemplate(tokenizer.get_chat_template(), tokens)


def _merged(model: PreTrainedModel, adapter_dir: Path) -> PreTrainedModel:
    """The model with the adapter added into its weights: so it costs nothing per token."""
    stated = read_json(adapter_dir / ADAPTER_CONFIG, required=True)
    if stated.get("peft_type") != "LORA" or not (adapter_dir / ADAPTER_WEIGHTS).is_file():
        raise invalid_model(f"only LoRA adapters with {ADAPTER_WEIGHTS} can be served.")
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(adapter_dir), local_files_only=True)
        return cast(PreTrainedModel, adapted.merge_and_unload(safe_merge=True))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise invalid_model(f"the adapter does not fit its base: {first_line(error)}") from error


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    found: set[int] = set()
    configured = model.generation_config.eos_token_id if model.generation_config else None
    for ids in (configured, model.config.eos_token_id, tokenizer.eos_token_id):
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)


def _defaults(model: PreTrainedModel) -> dict[str, float]:
    config = model.generation_config
    if config is None or not config.do_sample:
        return {}
    named = {name: getattr(config, name, None) for name in ("temperature", "top_p", "top_k")}
    return {name: float(value) for name, value in named.items() if value is not None}

"""Answers to held-out prompts, greedy and bounded: what the figures can't show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from workers.training.llm.decoder import Decoder, own_attention
from workers.training.llm.rows import Prompt


def answers(
    decoder: Decoder,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    device: torch.device,
    between: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """What the model says to each prompt (token ids). The model must be out of training mode."""
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=_ends(decoder, tokenizer),
        pad_token_id=decoder.pad_id,
    )
    found = []
    with own_attention(decoder), decoder.world.without_gradients():
        for number, prompt in enumerate(prompts):
            between(number)
            ids = torch.tensor([list(prompt)], device=device)
            mask = torch.ones_like(ids)
            output = decoder.world.run(
                partial(decoder.inner.generate, input_ids=ids, attention_mask=mask, generation_config=config)
            )
            found.append(str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)).strip())
    return found


def side_by_side(prompts: Sequence[Prompt], base: Sequence[str], own: Sequence[str]) -> list[dict[str, str]]:
    """Each prompt with the data set's answer, the base model's and the result's."""
    return [
        {"prompt": prompt.text, "reference": prompt.reference, "base": before, "result": after}
        for prompt, before, after in zip(prompts, base, own, strict=True)
    ]


def _ends(decoder: Decoder, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    stated = getattr(decoder.inner.generation_config, "eos_token_id", None)
    ends = set(stated if isinstance(stated, list) else [] if stated is None else [stated])
    return sorted(ends | ({int(tokenizer.eos_token_id)} if tokenizer.eos_token_id is not None else set()))

"""Several LoRA adapters over one base in one engine: each answer with its own, by the side of the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, describe_files, write_manifest
from tests.weights import stories260k
from tests.workers.engines.lora_folders import greedy, write_lora
from tests.workers.inference.stories import with_chat_template
from workers.engines.embedded.app import create_app
from workers.engines.embedded.generation.answers import Written, whole
from workers.engines.embedded.generation.forward import InTurn
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Lora
from workers.engines.embedded.generation.sampling import Sampling
from workers.engines.embedded.tasks.language_model import ServedLanguageModel
from workers.engines.interface import EngineOrder, ServedAdapter
from workers.run.context import RunFailed

KEY = "correct"
ALL_LAYERS = {
    "r": 5,
    "target_modules": "all-linear",
    "use_rslora": True,
    "lora_alpha": 4,
    "alpha_pattern": {"gate_proj": 2, "layers.1.self_attn.k_proj": 7},
}
GREEDY = Sampling(16, temperature=0, top_logprobs=2)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [
        write_lora(root / "few", stories260k(), 1),
        write_lora(root / "all", stories260k(), 2, **ALL_LAYERS),
    ]


@pytest.mark.parametrize("in_turn", [False, True])
def test_answers_of_several_adapters_grow_side_by_side_as_each_is_alone(adapters: list[Path], in_turn: bool) -> None:
    model = LanguageModel.load(stories260k())
    generator = Generator(model, forward=InTurn(model) if in_turn else None)
    loras = [None, *(generator.adapter(folder, folder.name.encode()) for folder in adapters)]
    # Longer than a piece: what was read for one is not taken for another.
    dice = torch.Generator().manual_seed(4)
    prompt = [int(token) for token in torch.randint(5, model.vocabulary_size, (75,), generator=dice)]

    def written(chosen: list[Lora | None]) -> list[Written]:
        async def run() -> list[Written]:
            return await asyncio.gather(*(whole(generator.start(prompt, GREEDY, adapter=one)) for one in chosen))

        return asyncio.run(run())

    together = written([*loras, *reversed(loras)])
    generator._prefixes.shrink(0)
    alone = [written([lora])[0] for lora in loras]
    generator.close()
    # With their log probabilities: every bit that can be seen.
    assert [one.choices for one in together] == [one.choices for one in [*alone, *reversed(alone)]]
    for folder, one in zip(adapters, alone[1:], strict=True):
        assert [choice.token for choice in one.choices] == greedy(stories260k(), folder, prompt, 16)
    assert len({tuple(choice.token for choice in one.choices) for one in alone}) == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "LoRA"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
        ({"other": torch.zeros(2)}, "other"),
        ({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(3, 9)}, "sizes"),
    ],
)
def test_an_adapter_that_can_t_be_added_to_its_base_is_refused_with_the_reason(
    adapters: list[Path], tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    config, weights = json.loads((adapters[0] / ADAPTER_CONFIG).read_bytes()), load_file(adapters[0] / ADAPTER_WEIGHTS)
    tensors = {name: value for name, value in change.items() if isinstance(value, torch.Tensor)}
    config |= {name: value for name, value in change.items() if name not in tensors}
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps(config))
    save_file(weights | tensors, tmp_path / ADAPTER_WEIGHTS)
    model = LanguageModel.load(stories260k())
    with pytest.raises(RunFailed, match=match) as failure:
        Lora.load(tmp_path, model.model, b"", model.example)
    assert failure.value.reason is Reason.invalid_model


@pytest.fixture(scope="module")
def call(adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The engine's HTTP, with the first adapter from the start."""
    few = adapters[0]
    manifest = Manifest(artifact="model", task="text-generation", files=describe_files(few))
    write_manifest(few, manifest)
    served_adapter = ServedAdapter("alice/few@1", few, manifest.digest, manifest.bytes_total)
    folder = with_chat_template(tmp_path_factory.mktemp("stories"))
    order = EngineOrder("alice/stories@2", "text-generation", folder, "d" * 64, 0, KEY, adapters=(served_adapter,))
    served = ServedLanguageModel.load(order)
    app = create_app(order.model, order.digest, served, KEY)

    def send(path: str, body: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
                return await client.post(path, json=body)

        return asyncio.run(run())

    yield send
    served.close()


def said(answer: httpx.Response) -> tuple[str, str, str]:
    """Who answered: the model's name, its fingerprint, and the text."""
    assert answer.status_code == 200, answer.text
    document = answer.json()
    return answer.headers["x-model"], document["system_fingerprint"], document["choices"][0]["text"]


def test_a_request_chooses_an_adapter_by_its_id_or_as_the_model_and_an_unknown_one_is_never_the_base(call: Any) -> None:
    asked = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 12}
    base = said(call("/v1/completions", {**asked, "model": "whatever"}))
    few = said(call("/v1/completions", {**asked, "model": "alice/few@1"}))
    assert (base[0], few[0]) == ("alice/stories@2", "alice/few@1")
    assert base[1] != few[1]
    assert base[2] != few[2]
    for name in ("alice/few@1", "alice/few", "few"):
        assert said(call("/v1/completions", {**asked, "adapter_id": name})) == few
    for name in ("alice/few@2", "bob/few", "ghost"):
        refused = call("/v1/completions", {**asked, "adapter_id": name})
        assert (refused.status_code, refused.json()["param"]) == (404, "adapter_id")
        assert "alice/few@1" in refused.json()["error"]
    tgi: dict[str, Any] = {"inputs": asked["prompt"], "parameters": {"max_new_tokens": 12, "adapter_id": "few"}}
    answer = call("/generate", tgi)
    assert (answer.json()["generated_text"], answer.headers["x-model"]) == (few[2], "alice/few@1")
    tgi["parameters"] |= {"adapter_id": "ghost"}
    assert call("/generate", tgi).status_code == 404

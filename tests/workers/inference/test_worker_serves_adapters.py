"""A LoRA adapter from training to an answer: its base is found by digest, fetched, merged, and asked in a chat."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import torch
from peft import PeftModel

from corpus.conversations.examples import Message
from corpus.conversations.rendering import Renderer
from jobspecs.manifest import Manifest, ModelOrigin, describe_files, write_manifest
from tests.weights import stories260k
from tests.workers.engines.lora_folders import greedy, write_lora
from tests.workers.inference.conftest import Place, Worker, eventually
from tests.workers.training.llm.attempts import LlmAttempt, conversations, write_jsonl
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.local_models.base_model import load_causal_lm

ASKED = "3 tree?"
NEW_TOKENS = 12


def test_a_trained_adapter_chats_over_its_registered_base(place: Place, worker: Worker, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(stories260k(), base)
    write_manifest(base, Manifest(artifact="model", task="text-generation", files=describe_files(base)))
    _, base_manifest, _ = place.register_folder("stories", base)
    adapter = trained_adapter(tmp_path, ModelOrigin(reference="alice/renamed@7", digest=base_manifest.digest))
    version_id, _, _ = place.register_folder("teller", adapter)
    place.deploy("teller", version_id, memory_bytes=1 << 30)
    row = place.in_state("teller", "ready")
    answer = httpx.post(
        f"{row.endpoint}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": ASKED}], "temperature": 0, "max_tokens": NEW_TOKENS},
        headers={"Authorization": f"Bearer {row.endpoint_key}"},
        timeout=30,
    )
    place.undeploy("teller")
    document = answer.json()
    # The base brings no chat template: it is asked as it was trained, with the default one.
    prompt = Renderer.load(base).prompt([Message("user", ASKED)]).ids
    assert answer.headers["x-model"] == "alice/teller@1"
    assert document["usage"]["prompt_tokens"] == len(prompt)
    told = {"prompt_tokens": len(prompt), "generated_tokens": document["usage"]["completion_tokens"]}
    eventually(lambda: counted_tokens(place) == told, f"the engine's tokens are counted: {told}")
    own, bases = continuations(base, adapter, prompt)
    assert document["choices"][0]["message"]["content"] == own != bases


def test_adapters_are_served_beside_their_base_and_what_they_say_is_theirs(
    place: Place, worker: Worker, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(stories260k(), base)
    write_manifest(base, Manifest(artifact="model", task="text-generation", files=describe_files(base)))
    base_id, base_manifest, _ = place.register_folder("stories", base)
    adapter_ids, folders = [], []
    for seed in (1, 2):
        folder = write_lora(tmp_path / f"lora{seed}", stories260k(), seed)
        origin = ModelOrigin(reference="alice/stories@1", digest=base_manifest.digest)
        files = describe_files(folder)
        write_manifest(folder, Manifest(artifact="model", task="text-generation", files=files, base=origin))
        folders.append(folder)
        adapter_ids.append(place.register_folder(f"lora{seed}", folder)[0])
    place.deploy("stories", base_id, memory_bytes=1 << 30, adapter_ids=adapter_ids)
    row = place.in_state("stories", "ready")

    def said(**chosen: str) -> httpx.Response:
        body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": NEW_TOKENS, **chosen}
        headers = {"Authorization": f"Bearer {row.endpoint_key}"}
        return httpx.post(f"{row.endpoint}/v1/completions", json=body, headers=headers, timeout=30)

    prompt = LanguageModel.load(base).encode("Once upon a time")
    tokenizer = load_causal_lm(base).tokenizer
    for number, folder in enumerate(folders, 1):
        answer, of_base = said(adapter_id=f"alice/lora{number}"), said()
        own = tokenizer.decode(greedy(base, folder, prompt, NEW_TOKENS), skip_special_tokens=True)
        texts = [one.json()["choices"][0]["text"].strip() for one in (answer, of_base)]
        assert texts[0] == own.strip() != texts[1]
        assert answer.headers["x-model"] == f"alice/lora{number}@1"
    assert said(adapter_id="alice/lora3").status_code == 404
    place.deploy("stories", base_id, memory_bytes=1 << 30, adapter_ids=adapter_ids[:1])
    generation = place.row("stories").generation  # type: ignore[union-attr]
    eventually(lambda: one_serves(place, generation), "the new generation is ready")
    row = place.in_state("stories", "ready")
    assert said(adapter_id="lora1").status_code == 200
    assert said(adapter_id="lora2").status_code == 404
    place.undeploy("stories")


def one_serves(place: Place, generation: int) -> bool:
    row = place.row("stories")
    return row is not None and (row.state, row.generation) == ("ready", generation)


def counted_tokens(place: Place) -> dict[str, int]:
    with place.database.unit_of_work() as work:
        return {total.event: total.count for total in work.tallies.totals() if total.kind == "text-generation"}


def trained_adapter(root: Path, origin: ModelOrigin) -> Path:
    """The folder of an adapter that `finetune-llm` has made."""
    rows = write_jsonl(root / "rows.jsonl", conversations())
    attempt = LlmAttempt(root / "run", stories260k(), rows)
    manifest = attempt.run(tuning="lora", training={"epochs": 1, "learning_rate": 3e-2})
    assert manifest.base is not None
    write_manifest(attempt.out, manifest.model_copy(update={"base": origin}))
    return attempt.out


def continuations(base: Path, adapter: Path, prompt: list[int]) -> tuple[str, str]:
    """What the adapter, not merged, says to the prompt, and what its base says."""
    loaded = load_causal_lm(base)
    adapted = PeftModel.from_pretrained(loaded.model, str(adapter)).eval()

    def said() -> str:
        ids = torch.tensor([prompt])
        written = adapted.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS
        )
        return str(loaded.tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True))

    with torch.inference_mode():
        own = said()
        with adapted.disable_adapter():
            return own, said()

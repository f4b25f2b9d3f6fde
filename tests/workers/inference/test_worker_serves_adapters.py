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
from tests.workers.inference.conftest import Place, Worker, eventually
from tests.workers.training.llm.attempts import LlmAttempt, conversations, write_jsonl
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

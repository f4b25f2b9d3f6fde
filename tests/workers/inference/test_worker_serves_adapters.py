"""A LoRA adapter from training to an answer: its base is found by digest, fetched, merged, and asked in a chat."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import torch
from peft import PeftModel

from corpus.conversations.examples import Message
from corpus.conversations.rendering import Renderer
from jobspecs.engines import EMBEDDED
from jobspecs.manifest import Manifest, ModelOrigin, describe_files, read_manifest, write_manifest
from scheduling.estimates.serving import adapter_bytes
from storage.tables import DeploymentRow
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


@dataclass
class Stories:
    """A base with adapters of one size, and the room of two engines."""

    place: Place
    base: Path
    base_id: UUID
    root: Path
    folders: dict[str, Path] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)
    bytes_total: dict[str, int] = field(default_factory=dict)

    def register(self, name: str, **config: object) -> None:
        folder = self.folders[name] = write_lora(self.root / name, stories260k(), len(self.ids))
        stated = json.loads((folder / "adapter_config.json").read_bytes())
        (folder / "adapter_config.json").write_text(json.dumps({**stated, **config}))
        origin = ModelOrigin(reference="alice/stories@1", digest=read_manifest(self.base).digest)
        files = describe_files(folder)
        write_manifest(folder, Manifest(artifact="model", task="text-generation", files=files, base=origin))
        self.ids[name], manifest, _ = self.place.register_folder(name, folder)
        self.bytes_total[name] = manifest.bytes_total

    def deploy(self, *names: str) -> None:
        """What is left for keys and values is always the same."""
        each = (1 << 30) + sum(adapter_bytes(self.bytes_total[name]) for name in names)
        ids = [self.ids[name] for name in names]
        self.place.deploy("stories", self.base_id, replicas=2, memory_bytes=2 * each, adapter_ids=ids)

    def row_once(self, *states: str) -> DeploymentRow:
        """Once the newest generation is in one of the states."""
        wanted = self.place.row("stories")
        assert wanted is not None

        def is_there() -> bool:
            row = self.place.row("stories")
            return row is not None and row.generation == wanted.generation and row.state in states

        eventually(is_there, f"it is {states}")
        return self.place.in_state("stories", *states)


@pytest.fixture
def stories(place: Place, worker: Worker, tmp_path: Path) -> Stories:
    base = tmp_path / "base"
    shutil.copytree(stories260k(), base)
    write_manifest(base, Manifest(artifact="model", task="text-generation", files=describe_files(base)))
    base_id, _, _ = place.register_folder("stories", base)
    return Stories(place, base, base_id, tmp_path)


def said(row: DeploymentRow, **chosen: str) -> httpx.Response:
    body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": NEW_TOKENS, **chosen}
    headers = {"Authorization": f"Bearer {row.endpoint_key}"}
    return httpx.post(f"{row.endpoint}/v1/completions", json=body, headers=headers, timeout=30)


def test_adapters_come_and_go_beside_their_base_while_it_answers_and_what_they_say_is_theirs(stories: Stories) -> None:
    for name in ("lora1", "lora2", "lora3"):
        stories.register(name)
    stories.register("odd", use_dora=True)
    stories.deploy("lora1", "lora2")
    row = stories.row_once("ready")
    assert EMBEDDED.known(row.endpoint_model) == (None, ("alice/lora1@1", "alice/lora2@1"))
    prompt = LanguageModel.load(stories.base).encode("Once upon a time")
    tokenizer = load_causal_lm(stories.base).tokenizer

    def check(name: str) -> None:
        own = tokenizer.decode(
            greedy(stories.base, stories.folders[name], prompt, NEW_TOKENS), skip_special_tokens=True
        )
        # Each is a connection of its own: both replicas are asked.
        answers = [said(row, adapter_id=f"alice/{name}") for _ in range(6)]
        assert {answer.json()["choices"][0]["text"].strip() for answer in answers} == {own.strip()}
        assert {answer.headers["x-model"] for answer in answers} == {f"alice/{name}@1"}

    check("lora1")
    check("lora2")
    assert said(row, adapter_id="alice/lora3").status_code == 404
    with asking_on(lambda: said(row, adapter_id="lora1").status_code) as seen:
        stories.deploy("lora1", "lora3")
        changed = stories.row_once("ready")
        assert (changed.endpoint, changed.endpoint_key) == (row.endpoint, row.endpoint_key), "nothing was started"
        assert EMBEDDED.known(changed.endpoint_model)[1] == ("alice/lora1@1", "alice/lora3@1")
        check("lora3")
        eventually(lambda: [said(row, adapter_id="lora2").status_code for _ in range(6)] == [404] * 6, "lora2 is gone")
        stories.deploy("lora1", "odd")
        refused = stories.row_once("failed")
        assert (refused.reason, refused.endpoint) == ("invalid_model", row.endpoint)
        assert "alice/odd@1" in (refused.message or "")
        assert "use_dora" in (refused.message or "")
        assert EMBEDDED.known(refused.endpoint_model)[1] == ("alice/lora1@1", "alice/lora3@1")
        check("lora3")
    assert set(seen) == {200}
    stories.place.undeploy("stories")


@contextmanager
def asking_on(ask: Callable[[], int]) -> Iterator[list[int]]:
    """Asks again and again meanwhile; the statuses."""
    seen: list[int] = []
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            seen.append(ask())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


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

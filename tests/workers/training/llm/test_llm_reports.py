"""What a report holds of the data: it is stored with the job, and read with it every time."""

from __future__ import annotations

import json
from pathlib import Path

from corpus.conversations.examples import PlainText
from corpus.conversations.rendering import Renderer
from tests.chat_models import CHATML, write_chat_model
from workers.training.llm.rows import Prompt, shown
from workers.training.llm.samples import side_by_side


def test_a_report_holds_the_beginning_of_a_row_of_megabytes(tmp_path: Path) -> None:
    renderer = Renderer.load(write_chat_model(tmp_path, CHATML))
    (example,) = shown([PlainText("word " * 400_000, 1)], renderer, 3)
    assert example["text"].startswith("«word word ") and example["text"].endswith("…")
    (sample,) = side_by_side([Prompt("a" * 1_000_000, [1], "b" * 1_000_000)], ["short"], ["c" * 1_000_000])
    assert sample["base"] == "short"
    assert len(json.dumps([example, sample])) < 50_000

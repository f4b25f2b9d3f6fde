"""A real language model of 260,000 parameters that writes children's stories, from the shared models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

#: Turns are lines of `role: text`; a message of the role `bad` is refused.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'bad' %}{{ raise_exception('no such role') }}{% endif %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Once upon a time{% endif %}"
)


def stories_folder() -> Path:
    """Skips the test where the model is not there."""
    data = os.environ.get("EIGENWERK_DATA_DIR")
    folder = Path(data).parent / "models" / "stories260k" if data else None
    if folder is None or not folder.is_dir():
        pytest.skip("models/stories260k is not beside EIGENWERK_DATA_DIR")
    return folder


def with_chat_template(folder: Path) -> Path:
    """A copy of the model that takes conversations."""
    for file in stories_folder().iterdir():
        shutil.copyfile(file, folder / file.name)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder

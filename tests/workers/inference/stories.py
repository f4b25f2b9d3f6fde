"""A real language model of 260,000 parameters that writes children's stories, from the shared models."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.weights import stories260k

#: Turns are lines of `role: text`; a message of the role `bad` is refused.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'bad' %}{{ raise_exception('no such role') }}{% endif %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Once upon a time{% endif %}"
)


def with_chat_template(folder: Path) -> Path:
    """A copy of the model that takes conversations."""
    for file in stories260k().iterdir():
        shutil.copyfile(file, folder / file.name)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder

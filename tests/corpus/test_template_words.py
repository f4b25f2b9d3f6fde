"""The roles and fields that a chat template knows are those that it compares and reads, not its other words."""

from __future__ import annotations

import pytest

from corpus.conversations.template_words import TemplateWords


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{% if m['role'] == 'critic' %}{{ m['content'] }}{% endif %}{% endfor %}",
        "{% set m = messages[0] %}{% set role = m.role %}{% if role in ['user', 'critic'] %}{{ m.content }}{% endif %}",
        "{% for m in messages %}{{ {'critic': 'C:'}[m.role] }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if 'critic' == m.get('role') %}{{ m.content }}{% endif %}{% endfor %}",
    ],
)
def test_roles_are_texts_that_a_role_is_compared_with(source: str) -> None:
    words = TemplateWords.of(source)
    assert "critic" in words.roles
    assert not words.roles & {"message", "content", "if", "role", "messages"}
    assert "content" in words.fields


def test_fields_are_names_that_are_looked_up() -> None:
    words = TemplateWords.of(
        "{% set m = messages[0] %}{% if 'tool_calls' in m and m.get('name') %}{{ m.content.strip() }}{% endif %}"
    )
    assert words.fields >= {"tool_calls", "name", "content"}
    assert not words.fields & {"if", "for", "strip", "get", "messages"}


def test_a_template_that_can_not_be_read_knows_nothing() -> None:
    assert TemplateWords.of("{% if %}") == TemplateWords()

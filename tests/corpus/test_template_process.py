"""Templates in a process of their own: the same text, and an end to those that have none."""

from __future__ import annotations

import sys

import pytest

from corpus.conversations import template_process
from corpus.conversations.chat_template import RenderingError
from corpus.conversations.template_process import ConfinedTemplate
from tests.chat_models import CHATML

HI = [{"role": "user", "content": "Hi", "name": "Ada"}]
#: Each is harmless for whoever says nothing but "Hi".
LOOP = (
    "{% if messages[0].content == 'loop' %}"
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    "{% endif %}"
)
GROW = (
    "{% if messages[0].content == 'grow' %}{% set kept = namespace(text='x' * 999999) %}"
    "{% for a in range(9999) %}{% set kept.text = kept.text ~ kept.text %}{% endfor %}"
    "{% endif %}"
)


def test_fields_beside_the_text_reach_the_template() -> None:
    template = ConfinedTemplate(CHATML + "{{ messages[0].name }} {{ eos_token }}", {"eos_token": "</s>"})
    assert template.render(HI) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nAda </s>"
    template.close()


@pytest.mark.parametrize(("word", "why"), [("loop", "too much time"), ("grow", "too much memory|can't write")])
def test_a_conversation_past_the_limits_is_refused_and_the_next_one_written(word: str, why: str) -> None:
    template = ConfinedTemplate(LOOP + GROW + CHATML, {})
    for _ in range(2):
        with pytest.raises(RenderingError, match=why):
            template.render([{"role": "user", "content": word}])
        assert "Hi" in template.render(HI)
    template.close()


def test_an_answer_that_is_too_long_is_refused_and_the_next_one_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "ANSWER_BYTES_MAX", 10_000)
    template = ConfinedTemplate("{{ messages[0].content * 5000 }}", {})
    with pytest.raises(RenderingError, match="too long an answer"):
        template.render([{"role": "user", "content": "long"}])
    assert template.render([{"role": "user", "content": "1"}]) == "1" * 5000
    template.close()


def test_a_process_that_fails_is_said_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    template = ConfinedTemplate("{{ messages[0].content }}", {})
    with pytest.raises(RenderingError, match="this model fails"):
        template.render(HI)
    template.close()


def test_many_conversations_may_take_more_time_together_than_one() -> None:
    busy = "{% for a in range(99999) %}{% for b in range(12) %}{% endfor %}{% endfor %}"
    template = ConfinedTemplate(busy + CHATML, {})
    for _ in range(8):
        assert "Hi" in template.render(HI)
    template.close()

"""Conversations become the text and the token ids that transformers would make, and the answers are found in them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from corpus.confinement.confinement import Confinement
from corpus.conversations.chat_template import ChatTemplate, RenderingError
from corpus.conversations.examples import Conversation, Example, Judged, Message, PlainText, Preference
from corpus.conversations.rendering import Rendered, Renderer, visible
from corpus.conversations.sandbox import render_confined
from tests.chat_models import CHATML, MARKED, byte_tokenizer, write_chat_model
from tests.weights import smollm2_gguf, stories260k

SYSTEM = Message("system", "Be brief.")
TURNS = (Message("user", "Hi"), Message("assistant", " Hello! "), Message("user", "2+2?"), Message("assistant", "4"))
#: Writes thoughts before the last answer only, as reasoning models do.
THINKING = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}"
    "{{ message['content']|trim + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def trained(rendered: Rendered) -> list[str]:
    """What is trained on, found through the token ids."""
    tokenizer = byte_tokenizer()
    texts, run = [], []
    for number, supervised in [*zip(rendered.ids, rendered.mask, strict=True), (0, False)]:
        if supervised:
            run.append(number)
        elif run:
            texts.append(tokenizer.decode(run, skip_special_tokens=False))
            run = []
    return texts


def renderer(folder: Path, template: str | None, **options: Any) -> Renderer:
    return Renderer.load(write_chat_model(folder, template, **options))


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_the_answers_are_trained_with_the_token_that_ends_them_and_nothing_else(tmp_path: Path, template: str) -> None:
    rendered = renderer(tmp_path, template).conversation((SYSTEM, *TURNS))
    assert trained(rendered) == [" Hello! <|im_end|>", "4<|im_end|>"]
    assert visible(rendered) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n« Hello! <|im_end|>»\n<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n«4<|im_end|>»\n"
    )


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_a_turn_that_is_context_only_is_not_trained(tmp_path: Path, template: str) -> None:
    turns = (TURNS[0], Message("assistant", "Hello", supervised=False), *TURNS[2:])
    assert trained(renderer(tmp_path, template).conversation(turns)) == ["4<|im_end|>"]


def test_answers_are_found_in_a_template_that_writes_the_last_one_differently(tmp_path: Path) -> None:
    rendered = renderer(tmp_path, THINKING).conversation(TURNS)
    assert trained(rendered) == ["Hello!<|im_end|>", "<think></think>4<|im_end|>"]


def test_only_the_answers_of_pairs_and_judged_conversations_are_trained(tmp_path: Path) -> None:
    model = renderer(tmp_path, CHATML)
    pair = model.example(Preference(TURNS[:3], (TURNS[3],), (Message("assistant", "5"),), row=1))
    assert {name: trained(one) for name, one in pair.items()} == {
        "chosen": ["4<|im_end|>"],
        "rejected": ["5<|im_end|>"],
    }
    starts = [one.ids[: one.mask.index(True)] for one in pair.values()]
    assert starts[0] == starts[1] == model.prompt(TURNS[:3]).ids
    assert trained(model.example(Judged(TURNS, True, row=1))["answer"]) == ["4<|im_end|>"]


def test_text_is_trained_whole_and_ended(tmp_path: Path) -> None:
    rendered = renderer(tmp_path, None).example(PlainText("Once.", row=1))["text"]
    assert trained(rendered) == ["Once.<|im_end|>"]


messages = st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=[CHATML, MARKED, THINKING], ids=["chatml", "marked", "thinking"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Renderer, Any]:
    """Ours and transformers', of the same folder."""
    folder = write_chat_model(tmp_path_factory.mktemp("model"), request.param)
    return Renderer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)


@settings(max_examples=60, deadline=None)
@given(messages)
def test_any_conversation_gets_the_ids_that_transformers_gives(
    both: tuple[Renderer, Any], turns: list[tuple[str, str]]
) -> None:
    ours, theirs = both
    conversation = [
        message
        for asked, answered in turns
        for message in (
            Message("user", asked.replace("\0", "")),
            Message("assistant", answered.replace("\0", "") or "x"),
        )
    ]
    chat = [{"role": message.role, "content": message.content} for message in conversation]
    # Of a blank answer a template that trims leaves nothing, which is refused.
    assume("|trim" not in ours.template.source or all(message.content.strip() for message in conversation))
    rendered = ours.conversation(conversation)
    assert rendered.ids == theirs.apply_chat_template(chat, return_dict=False)
    assert "".join(piece.text for piece in rendered.pieces) == theirs.apply_chat_template(chat, tokenize=False)
    prompt = theirs.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=False)
    assert ours.prompt(conversation[:-1]).ids == prompt
    if ours.template.marks_answers:
        encoded = theirs.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
        assert rendered.mask == [bool(flag) for flag in encoded["assistant_masks"]]


def test_smollm2_gets_the_ids_that_transformers_gives(tmp_path: Path) -> None:
    file = smollm2_gguf()
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    theirs.save_pretrained(tmp_path)
    ours = Renderer.load(tmp_path)
    for turns in (
        TURNS,
        (SYSTEM, *TURNS),
        (Message("user", "Grüße, 世界 🎉\n\n  x"), Message("assistant", "<b>&</b>")),
    ):
        chat = [{"role": turn.role, "content": turn.content} for turn in turns]
        rendered = ours.conversation(turns)
        assert rendered.ids == theirs.apply_chat_template(chat, return_dict=False)
        answers = "".join(f"{turn.content}<|im_end|>" for turn in turns if turn.role == "assistant")
        kept = [number for number, supervised in zip(rendered.ids, rendered.mask, strict=True) if supervised]
        assert theirs.decode(kept) == answers


def test_a_model_without_a_template_gets_chatml_if_it_has_its_tokens(tmp_path: Path) -> None:
    model = renderer(tmp_path, None)
    assert model.template.origin == "default"
    assert visible(model.conversation(TURNS[2:])) == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»\n"
    )


def test_a_model_without_a_template_and_chat_tokens_gets_roles_as_headings(tmp_path: Path) -> None:
    model = renderer(tmp_path, None, eos="<|endoftext|>", special=("<|endoftext|>",))
    assert visible(model.conversation((SYSTEM, *TURNS[2:]))) == (
        "### System:\nBe brief.\n\n### User:\n2+2?\n\n### Assistant:\n«4<|endoftext|>»\n\n"
    )
    with pytest.raises(RenderingError, match="end-of-sequence"):
        renderer(tmp_path / "other", None, eos=None, special=())


def test_a_default_template_begins_as_the_tokenizer_would() -> None:
    model = Renderer.load(stories260k())
    assert visible(model.conversation(TURNS[2:])).startswith("<s>### User:\n2+2?")
    assert model.text("Once").ids[0] == 1
    assert model.text("Once").ids[-1] == 2


def test_templates_in_older_places_are_found(tmp_path: Path) -> None:
    config_path = write_chat_model(tmp_path, None) / "tokenizer_config.json"
    config = json.loads(config_path.read_text())
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]
    for value in (CHATML, named):
        config_path.write_text(json.dumps({**config, "chat_template": value, "bos_token": {"content": "<|im_start|>"}}))
        template = Renderer.load(tmp_path).template
        assert (template.source, template.origin) == (CHATML, "model")
        assert template.tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


def test_a_template_sees_the_date_that_the_clock_shows() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", "model", clock=lambda: datetime(2026, 3, 1))
    assert template.render(TURNS).text == "01 Mar 2026"


def test_a_template_renders_as_transformers_would_show_it(tmp_path: Path) -> None:
    source = (
        "{% for message in messages %}\n    {% if loop.index0 == 2 %}{% break %}{% endif %}\n"
        "    {{- message | tojson }}\n{% endfor %}\n{{ bos_token }}{{ eos_token }}{{ missing }}{{ tools is none }}"
    )
    folder = write_chat_model(tmp_path, source)
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    chat = [{"role": turn.role, "content": f"<{turn.content}>"} for turn in TURNS]
    turns = [Message(turn.role, f"<{turn.content}>") for turn in TURNS]
    assert Renderer.load(folder).template.render(turns).text == theirs.apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
        ("{% for", "can't write this conversation"),
        ("{{ messages[9].content }}", "can't write this conversation"),
        ("{{ messages[0].role }}", "leaves an answer out"),
        ("{{ messages[-1].content[:2] }}", "changes turn 2"),
        ("{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}", "not one behind the other"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}" * 3, "marks 3 answers of 1"),
    ],
)
def test_a_template_that_cannot_write_or_show_the_answer_is_refused(tmp_path: Path, template: str, words: str) -> None:
    model = renderer(tmp_path, template)
    with pytest.raises(RenderingError, match=words) as refused:
        model.conversation((TURNS[0], Message("assistant", "An answer", supervised="marks" not in words)))
    assert refused.value.problems[0].remedy


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ [0] * 10 ** 10 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ 'a'.center(10 ** 10) }}",
        "{{ '%1000000000000d' % 1 }}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "{% for i in range(99999) %}{% for j in range(9999) %}" + "a" * 200 + "{% endfor %}{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__ }}",
        "{{ messages.append(1) }}",
        "{% include 'tokenizer.json' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_hostile_template_is_stopped_in_its_own_process(
    confinement: Confinement, tmp_path: Path, template: str
) -> None:
    folder = write_chat_model(tmp_path, template)
    [outcome] = render_confined(confinement, folder, [Conversation(TURNS, row=1)]).examples
    assert outcome.sequences == {}
    assert outcome.problem


def test_a_template_that_runs_on_and_on_is_ended(confinement: Confinement, tmp_path: Path) -> None:
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(RenderingError, match="too much time"):
        render_confined(confinement, write_chat_model(tmp_path, loops), [Conversation(TURNS, row=1)])


def test_the_confined_process_renders_the_same(confinement: Confinement, tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path, CHATML)
    examples: list[Example] = [
        Conversation(TURNS, row=1),
        Preference(TURNS[:1], (TURNS[1],), (TURNS[3],), row=2),
        Judged(TURNS, False, row=3),
        PlainText("Once.", row=4),
    ]
    confined = render_confined(confinement, folder, examples)
    here = Renderer.load(folder)
    assert confined.template == "model"
    assert [outcome.sequences for outcome in confined.examples] == [here.example(example) for example in examples]


def test_a_folder_that_cannot_be_used_is_refused_by_both(confinement: Confinement, tmp_path: Path) -> None:
    with pytest.raises(RenderingError, match=r"no tokenizer\.json"):
        Renderer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RenderingError, match=r"tokenizer\.json can't be read"):
        render_confined(confinement, tmp_path, [])

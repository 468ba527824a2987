"""Thoughts in a field of their own reach the template under the name that it reads, whatever the row calls them."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
import tiny_tokenizers as tiny

from seralign.data.answers import render_chat
from seralign.data.content import Chat, Inputs, Message
from seralign.data.rendering import Conversation, LeftOut, Rendered

USER: Message = {"role": "user", "content": "What is 2 + 2?"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "days": 3}}}
FIELDS = ["reasoning_content", "thinking", "reasoning"]
RENAMED = "thought moved to the field that the chat template reads"
ASSISTANT_TURN = "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
# As Qwen3's: of earlier turns it writes the thoughts that come after the last question.
LATER = (
    "{% set last = namespace(at=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set last.at = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m.FIELD is string and loop.index0 > last.at %}{{ '<think>\n' + m.FIELD.strip('\n') + '\n</think>\n\n' }}"
    "{% endif %}{{ m['content'] }}{% for c in m['tool_calls'] %}{{ c['function'] | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As the distilled models of DeepSeek-R1: the generation prompt opens the thought, and answers lose theirs.
R1 = (
    "{% for m in messages %}{% set c = m['content'] %}{% if m['role'] == 'assistant' %}{% if '</think>' in c %}"
    "{% set c = c.split('</think>')[-1] %}{% endif %}{{ '<|im_start|>assistant\n' + c + '<|im_end|>' }}{% else %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
OPENS = tiny.CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
LEFT_OUT = LeftOut("chat template leaves out a part of the answer")


def answer(content: str, **more: Any) -> Chat:
    return ({"role": "assistant", "content": content, **more},)


def rendered(template: str, *answers: Chat, prompt: Chat = (USER,)) -> Rendered | LeftOut:
    """Without transformers, whose newer versions know some of the names themselves."""
    environment = jinja2.Environment()

    def fail(message: str) -> None:
        raise jinja2.TemplateError(message)

    def apply(chat: Chat, inputs: Inputs, add_generation_prompt: bool) -> str:
        made = environment.from_string(template, {"raise_exception": fail})
        return made.render(messages=list(chat), add_generation_prompt=add_generation_prompt)

    return render_chat(apply, Conversation(prompt, answers, Inputs()), careful=True)


def kept(template: str, *answers: Chat, **more: Any) -> Rendered:
    found = rendered(template, *answers, **more)
    assert isinstance(found, Rendered), found
    return found


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("read", FIELDS)
def test_a_thought_is_given_in_the_field_that_the_template_reads(field: str, read: str) -> None:
    found = kept(LATER.replace("FIELD", read), answer("4", **{field: "It is 4."}), answer("5"))
    assert found.prompt == ASSISTANT_TURN
    assert found.responses == ("<think>\nIt is 4.\n</think>\n\n4<|im_end|>", "5<|im_end|>")
    assert found.notes == ((RENAMED,) if field != read else ())


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("answers", [(), (answer("4"),), (answer("4"), answer("5"))])
def test_thoughts_before_the_answer_are_renamed_too(field: str, answers: tuple[Chat, ...]) -> None:
    first = {**USER, "content": "Hi"}, {"role": "assistant", "content": "Hello.", field: "Be kind."}
    asks = {"role": "assistant", "content": "", "tool_calls": [CALL], field: "Ask."}
    turns = (*first, USER, asks, {"role": "tool", "content": "20"})
    found = kept(LATER.replace("FIELD", "reasoning_content"), *answers, prompt=turns)
    assert "<think>\nAsk.\n</think>" in found.prompt
    assert "Be kind." not in found.prompt
    assert (RENAMED in found.notes) == (field != "reasoning_content")


def test_a_thought_that_comes_in_two_fields_is_written_once() -> None:
    twice = answer("4", reasoning_content="It is 4.", reasoning="It is 4.")
    found = kept(LATER.replace("FIELD", "thinking"), twice)
    assert found.responses == ("<think>\nIt is 4.\n</think>\n\n4<|im_end|>",)
    # Of two that differ neither is left out without a word.
    assert rendered(LATER.replace("FIELD", "thinking"), answer("4", reasoning_content="a", reasoning="b")) == LEFT_OUT


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("template", [R1, OPENS])
def test_a_thought_goes_where_the_generation_prompt_opens_it(field: str, template: str) -> None:
    """No field is read, and the model thinks after the tag that the prompt ends with."""
    found = kept(template, answer("\n\n4", **{field: "It is 4.\n"}))
    assert found.prompt.endswith("<|im_start|>assistant\n<think>\n")
    assert found.responses == ("It is 4.\n</think>\n\n4<|im_end|>",)
    assert found.notes == ("thought kept although the chat template leaves it out",)


def test_a_thought_that_no_template_can_be_given_drops_the_row() -> None:
    assert rendered(tiny.CHATML, answer("4", thinking="It is 4.")) == LEFT_OUT
    strict = "{% for m in messages if m.reasoning %}{{ raise_exception('no') }}{% endfor %}" + tiny.CHATML
    assert rendered(strict, answer("4", thinking="It is 4.")) == LEFT_OUT

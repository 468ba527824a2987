"""A call or a thought that a template does not write is missed, though its words stand elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_tokenizers as tiny
from test_data_templates import TOOLS, USER, WEATHER, answer, encode, kept

from seralign.data.content import Chat, Inputs

LEFT_OUT = "chat template leaves out a part of the answer"
FIRST_CALL = TOOLS.replace("m['tool_calls']", "(m['tool_calls'] or [])[:1]")
INSTEAD = TOOLS.replace("{{ m['content'] }}", "{% if not m['tool_calls'] %}{{ m['content'] }}{% endif %}")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (tiny.CHATML, answer("I call get_time.", tool_calls=[call("get_time")])),
        (tiny.CHATML, answer("Calling weather with city=Rome", tool_calls=[call("weather", city="Rome")])),
        (tiny.CHATML, answer("weathercock", tool_calls=[call("weather")])),
        (tiny.CHATML, answer("I call get_time.", function_call={"name": "get_time", "arguments": {}})),
        (tiny.CHATML, answer("The answer is 4", reasoning_content="4")),
        (FIRST_CALL, answer("", tool_calls=[call("add", a=1, b=2), call("add", a=2, b=1)])),
        (FIRST_CALL, answer("", tool_calls=[call("add", a=1), call("add", a=1)])),
        # The content is what is missing here.
        (INSTEAD, answer("Rome", tool_calls=[call("weather", city="Rome")])),
    ],
)
def test_a_part_that_is_not_written_is_missed_though_its_words_are(template: str, message: Chat) -> None:
    assert encode(template, message, answer("no")) == LEFT_OUT


def test_each_of_several_equal_parts_is_written() -> None:
    encoded = kept(TOOLS, answer("add 1", tool_calls=[call("add", a=1), call("add", a=1)]), answer("no"))
    assert encoded.responses[0] == "add 1" + 2 * '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    assert encoded.notes == ()


@pytest.mark.parametrize("tools", [(), (WEATHER,)])
def test_a_call_in_the_prompt_that_is_not_written_is_noted_though_its_words_are(tools: tuple[Any, ...]) -> None:
    chat = (USER, *answer("I use weather", tool_calls=[call("weather")]), {"role": "tool", "content": "20"})
    without = TOOLS.replace("m['tool_calls']", "[]")
    assert kept(without, answer("4"), prompt=chat, inputs=Inputs(tools)).notes == (
        "chat template leaves out a part of the prompt",
    )
    assert kept(TOOLS, answer("4"), prompt=chat, inputs=Inputs(tools)).notes == ()


def test_a_template_that_refuses_a_stand_in_is_judged_by_what_it_writes() -> None:
    adding = TOOLS.replace("{{ m['content'] }}", "{% for c in m['tool_calls'] %}{{ c['function']['arguments']['a'] + 1 "
                           "}}{% endfor %}{{ m['content'] }}")  # fmt: skip
    assert kept(adding, answer("", tool_calls=[call("add", a=1)])).responses == (
        '2<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>',
    )

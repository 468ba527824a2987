"""Preferences, calls of tools and labels as other tools' datasets have them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from given_rows import CHAT, PLAIN, assistant, pair, refusal, user

from seralign.data.formats import read_demonstration, read_pair, read_prompt
from seralign.data.kinds import kind_of
from seralign.data.place import Place, Reading
from seralign.data.raw import Drop, RawExample
from seralign.errors import DataError


@pytest.mark.parametrize("column", ["rejected_response", "rejected_messages"])
@pytest.mark.parametrize("rejected", ["b", [assistant("b")], [user("Q"), assistant("b")]])
@pytest.mark.parametrize("more", [{}, {"rejected_messages": None, "rejected_response": None}])
def test_preferences_as_ms_swift_has_them(column: str, rejected: Any, more: dict[str, Any]) -> None:
    row = {"messages": [user("Q"), assistant("a")], "id": 7, **more, column: rejected}
    read = pair(row)
    assert (read.prompt, *read.responses) == ((user("Q"),), (assistant("a"),), (assistant("b"),))
    assert read.unread == ("id",)
    demonstration = read_demonstration(row, "f row 1")
    assert isinstance(demonstration, RawExample)
    assert demonstration.responses[0] == (assistant("a"),)


def test_what_is_wrong_with_preferences_of_ms_swift_is_said_by_its_names() -> None:
    row = {"messages": [user("Q"), assistant("a")]}
    both = row | {"rejected_response": "b", "rejected_messages": [user("Q"), assistant("b")]}
    assert "rejected_messages and rejected_response both have the rejected answer" in refusal(both)
    assert "rejected_response must be text or a list of" in refusal(row | {"rejected_response": None})
    unanswered = {"messages": [user("Q")], "rejected_response": "b"}
    assert "messages, rejected_response (messages must end with the chosen answer" in refusal(unanswered)
    other = row | {"rejected_messages": [user("Q2"), assistant("b")]}
    assert read_pair(other, "f row 1") == Drop("answers do not begin with the prompt")


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}


@pytest.mark.parametrize("role", ["function_call", "tool_call"])
@pytest.mark.parametrize(
    "value",
    ['{"name": "weather", "arguments": {"city": "Rome"}}', '[{"name": "weather", "arguments": {"city": "Rome"}}]',
     '{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}', json.dumps(CALL),
     {"name": "weather", "arguments": {"city": "Rome"}}],
)  # fmt: skip
def test_a_message_that_is_a_call_becomes_the_assistants(role: str, value: Any) -> None:
    turns = [{"from": "human", "value": "Warm?"}, {"from": role, "value": value}]
    row = {"conversations": [*turns, {"from": "observation", "value": "20"}, {"from": "gpt", "value": "Yes."}]}
    read = read_demonstration(row, "f row 1")
    assert isinstance(read, RawExample)
    assert read.prompt == (user("Warm?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "20"})
    assert read.responses[0] == (assistant("Yes."),)
    # The call itself may be the answer.
    call = read_demonstration({"conversations": turns}, "f row 1")
    assert isinstance(call, RawExample)
    assert (call.prompt, call.responses[0]) == ((user("Warm?"),), (assistant("", tool_calls=[CALL]),))


def test_calls_in_a_row_are_one_turn() -> None:
    call = {"role": "tool_call", "content": '{"name": "weather", "arguments": {"city": "Rome"}}'}
    read = pair({"prompt": "Warm?", "chosen": [assistant("Let me see."), call, call], "rejected": [assistant("No.")]})
    assert read.responses[0] == (assistant("Let me see.", tool_calls=[CALL, CALL]),)


@pytest.mark.parametrize("value", ["weather(Rome)", "[]", '{"city": "Rome"}', '["weather"]', "[" * 200])
def test_a_call_that_is_none_is_refused_or_read_as_text_where_asked(value: str) -> None:
    row = {**CHAT, "chosen": [{"role": "function_call", "content": value}]}
    message = refusal(row)
    assert "message 1 of chosen has the role 'function_call', so its text must be a call" in message
    assert "data.roles: {function_call: assistant}" in message
    assert pair(row, roles={"function_call": "assistant"}).responses[0] == (assistant(value),)


@pytest.mark.parametrize(
    ("role", "ours"),
    [("tool_output", "tool"), ("Execution", "tool"), ("system_prompt", "system"), ("ai_agent", "assistant"),
     ("client", "user")],
)  # fmt: skip
def test_an_unknown_role_comes_with_the_mapping_that_is_likely(role: str, ours: str) -> None:
    row = {**CHAT, "prompt": [{"role": role, "content": "x"}, user("Q")]}
    assert f"data.roles: {{{role}: {ours}}}" in refusal(row)


THUMBS = [
    {"prompt": "Q", "completion": "a", "label": True},
    {"prompt": "Q", "completion": "a", "label": "False"},
    {"prompt": [user("Q")], "completion": [assistant("a")], "label": False},
    {"messages": [user("Q"), assistant("a")], "label": 1},
]
RANKED = [
    {"prompt": "Q", "answers": [{"answer": "a", "rank": 1.0}, {"answer": "b", "rank": 2.0}]},
    {"prompt": "Q", "responses": ["a", "b"], "scores": [1, 2]},
    {"instruction": "Q", "completions": [{"response": "a", "overall_score": 5.0}]},
]


@pytest.mark.parametrize(
    ("row", "what"),
    [(r, "an unpaired preference as in KTO, not a demonstration; give the rows as data.pairs") for r in THUMBS]
    + [(r, "a list of ranked answers as in Nectar, not a demonstration; give the rows as data.pairs") for r in RANKED],
)
def test_preferences_of_other_forms_are_no_demonstrations(row: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=rf"^f row 1: .*{what}.*; the columns are "):
        read_demonstration(row, "f row 1")
    assert kind_of(row, Place("f row 1", Reading())) == "pairs"


@pytest.mark.parametrize(
    "row",
    [{"prompt": "Q", "completion": "a", "label": "easy"}, {"prompt": "Q", "completion": "a", "label": 3},
     {"prompt": "Q", "completion": "a", "label": None}, {"prompt": "Q", "response": "a", "answers": ["x"]}],
)  # fmt: skip
def test_a_label_or_a_list_of_another_kind_is_a_column_like_others(row: dict[str, Any]) -> None:
    read = read_demonstration(row, "f row 1")
    assert isinstance(read, RawExample)
    assert len(read.unread) == 1
    assert kind_of(row, Place("f row 1", Reading())) == "demonstrations"


def test_a_pair_may_have_a_label_or_scores() -> None:
    assert pair({**PLAIN, "label": True, "scores": [1, 2]}).unread == ("label", "scores")
    prompt = read_prompt(RANKED[0], "f row 1")
    assert not isinstance(prompt, Drop)
    assert (prompt.prompt, prompt.unread) == ("Q", ("answers",))


@pytest.mark.parametrize(
    ("more", "prompt"),
    [({}, "Add."), ({"input": ""}, "Add."), ({"input": None}, "Add."), ({"input": "2 + 2"}, "Add.\n2 + 2")],
)
def test_a_list_of_two_outputs_as_older_llama_factory_has_them(more: dict[str, Any], prompt: str) -> None:
    row = {"instruction": "Add.", "output": ["4", "5"], "id": 3} | more
    assert kind_of(row, Place("f row 1", Reading())) == "pairs"
    read = pair(row)
    assert (read.prompt, *read.responses) == (prompt, "4", "5")
    assert read.unread == ("id",)
    asked = read_prompt(row, "f row 1")
    assert not isinstance(asked, Drop)
    assert asked.prompt == prompt


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"output": ["4"]}, "output must be a list of two texts, the better answer first"),
        ({"output": ["4", "5", "6"]}, "for more answers, write a list of responses and a list of their ranks"),
        ({"output": ["4", None]}, "output must be a list of two texts"),
        ({"output": ["4", "5"], "chosen": "4"}, "output is a list of answers, and chosen is there, too"),
        ({"output": ["4", "5"], "input": 7}, "input must be text, got int '7'"),
    ],
)
def test_other_lists_of_outputs_are_refused(row: dict[str, Any], says: str) -> None:
    assert says in refusal({"instruction": "Add."} | row)

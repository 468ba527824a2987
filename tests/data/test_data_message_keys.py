"""Keys of messages, and columns beside OpenAI's format, that nothing reads are listed; media are refused."""

from __future__ import annotations

from typing import Any

import pytest
from given_rows import assistant, user

from seralign.data.formats import read_demonstration, read_pair, read_prompt
from seralign.data.raw import Drop, RawExample, RawPrompt
from seralign.errors import DataError

NOT_LEARNED = "answer marked as not to be learned"


def row(message: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": [message], "chosen": [assistant("a")], "rejected": [assistant("b")]}


@pytest.mark.parametrize("key", ["images", "attachments", "image_url", "audio"])
def test_media_in_a_message_are_refused(key: str) -> None:
    with pytest.raises(DataError, match=f"f row 1: message 1 of prompt has {key}, but only text is supported"):
        read_pair(row(user("What is it?", **{key: ["a.png"]})), "f row 1")
    part = {"type": "text", "text": "What is it?", key: {"url": "a.png"}}
    with pytest.raises(DataError, match=f"message 1 of prompt: part 1 of its content has {key}"):
        read_pair(row(user([part])), "f row 1")
    assert isinstance(read_pair(row(user([{**part, key: None}], **{key: []})), "f row 1"), RawExample)


@pytest.mark.parametrize(
    ("message", "unread"),
    [
        (user("Hi", name="Ann"), ("prompt[].name",)),
        (user("Hi", value="Other"), ("prompt[].value",)),
        (user("Hi", tools=[{"name": "f"}], weight=0), ("prompt[].tools", "prompt[].weight")),
        (user([{"type": "text", "text": "Hi", "cache_control": {"type": "x"}}]), ("prompt[].content[].cache_control",)),
        ({"role": "tool", "content": "20", "name": "weather", "tool_call_id": "a"}, ()),
        (user("Hi", name="", tools=[]), ()),
    ],
)
def test_keys_of_messages_that_are_not_read_are_listed(message: dict[str, Any], unread: tuple[str, ...]) -> None:
    pair, prompt = read_pair(row(message), "f row 1"), read_prompt({"prompt": [message]}, "f row 1")
    assert isinstance(pair, RawExample)
    assert isinstance(prompt, RawPrompt)
    assert pair.unread == prompt.unread == unread


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}, {"train": "False"}]
)
def test_an_answer_that_is_not_to_be_learned_is_dropped(mark: dict[str, Any]) -> None:
    (key,) = mark
    messages = [user("2+2?"), assistant("4"), user("3+3?"), assistant("6", **mark)]
    assert read_demonstration({"messages": messages}, "f row 1") == Drop(NOT_LEARNED, (f"messages[].{key}",))
    pair = {**row(user("Q")), "chosen": [assistant("a", **mark)]}
    assert read_pair(pair, "f row 1") == Drop(NOT_LEARNED, (f"chosen[].{key}",))
    earlier = [user("2+2?"), assistant("4", **mark), user("3+3?"), assistant("6", weight=1)]
    assert isinstance(read_demonstration({"messages": earlier}, "f row 1"), RawExample)


def test_columns_beside_openais_format_are_listed() -> None:
    made = {
        "input": {"messages": [user("Q")], "tools": [{"a": 1}]},
        "preferred_output": [assistant("a")],
        "non_preferred_output": [assistant("b")],
    }
    raw = read_pair({**made, "prompt": "other", "chosen": "c", "tools": [{"b": 1}]}, "f row 1")
    assert isinstance(raw, RawExample)
    assert (raw.prompt, raw.responses[0], raw.inputs.tools) == ((user("Q"),), (assistant("a"),), ({"a": 1},))
    assert raw.unread == ("prompt (beside input)", "chosen (beside input)", "tools (beside input)")

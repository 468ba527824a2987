"""Stand-ins for the parts of a message besides its content, to find out which parts a chat template writes.

The words of a call or thought may occur in the content or in the list of tools too; a stand-in occurs in no text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from seralign.data.content import Chat, Inputs, Message
from seralign.data.thoughts import REASONING, THOUGHT, Apply

BESIDE = (*REASONING, "refusal")
"""Text fields besides the content."""


def beside(message: Message) -> Iterator[Any]:
    """The parts of a message besides its content: thoughts, a refusal, names and arguments of calls."""
    for key in BESIDE:
        if _is_text(message.get(key)):
            yield message[key]
    calls = [call.get("function", call) for call in message.get("tool_calls", ())]
    for call in (*calls, message.get("function_call", {})):
        yield from _leaves([call.get("name"), call.get("arguments")])


def leaves_out(apply: Apply, before: Chat, messages: Chat, inputs: Inputs, asks: bool) -> bool:
    """Whether the template leaves out a part of messages other than their content.

    Args:
        apply: Applies the template.
        before: The messages before them; unchanged.
        messages: The messages.
        inputs: Other inputs of the template.
        asks: Whether a generation prompt follows.
    """
    if not any(True for message in messages for _ in beside(message)):
        return False
    numbers = itertools.count()
    marked, marks = [], []
    for message in messages:
        replaced = _replaced(message, numbers) if any(True for _ in beside(message)) else (message, [])
        marked.append(replaced[0])
        marks += replaced[1]
    # A template may fail on a stand-in, for example in place of a number. The real message is checked elsewhere.
    with suppress(Exception):
        text = apply((*before, *marked), inputs, asks)
        return not all(mark in text for mark in marks)
    return False


def _replaced(message: Message, numbers: Iterator[int]) -> tuple[Message, list[str]]:
    """A message with a stand-in for each of its parts, and the stand-ins; equal thoughts share one."""
    texts: dict[str, str] = {}
    made = dict(message)
    # Templates split the content at thought tags.
    content = ("content",) if _is_text(message["content"]) and not THOUGHT.search(message["content"]) else ()
    for key in BESIDE:
        if _is_text(message.get(key)):
            made[key] = texts.setdefault(message[key].strip(), _mark(numbers))
    for key in content:
        made[key] = texts[message[key]] = _mark(numbers)
    marks: list[str] = list(texts.values())
    if "tool_calls" in message:
        made["tool_calls"] = [_call(call, numbers, marks) for call in message["tool_calls"]]
    if "function_call" in message:
        made["function_call"] = _call(message["function_call"], numbers, marks)
    return made, marks


def _call(call: dict[str, Any], numbers: Iterator[int], marks: list[str]) -> dict[str, Any]:
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"], numbers, marks)}
    return {key: _nested(call[key], numbers, marks) if key in ("name", "arguments") else call[key] for key in call}


def _nested(value: Any, numbers: Iterator[int], marks: list[str]) -> Any:
    """Nested JSON with a stand-in for each name and value."""
    if isinstance(value, dict):
        return {_nested(key, numbers, marks): _nested(item, numbers, marks) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(item, numbers, marks) for item in value]
    if value is None or value == "":
        return value
    marks.append(_mark(numbers))
    return marks[-1]


def _leaves(value: Any) -> Iterator[Any]:
    """The names and the values in nested JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None and value != "":
        yield value


def _mark(numbers: Iterator[int]) -> str:
    # Only letters and digits, which no template escapes.
    return f"qzx{next(numbers)}xzq"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())

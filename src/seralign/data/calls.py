"""Tool calls in messages: OpenAI's ``tool_calls``, and ShareGPT's messages whose text is a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seralign.data.content import Chat, Message
from seralign.data.place import Place
from seralign.data.values import from_json, shown

ARGUMENTS_DECODED = "tool call arguments parsed from JSON text"


def read_calls(calls: Any, what: str, place: Place) -> list[Any]:
    """Read the value of ``tool_calls``.

    Args:
        calls: A list of objects.
        what: The message, for errors.
        place: The row.

    Raises:
        DataError: It is not such a list.
    """
    if not isinstance(calls, list | tuple) or not all(isinstance(call, Mapping) for call in calls):
        raise place.error(f"{what}: tool_calls must be a list of calls, got {shown(calls)}")
    return [_call(dict(call), place) for call in calls]


def call_message(message: Message, role: str, what: str, place: Place) -> Message:
    """Turn a message with a role such as ``function_call`` into an assistant message with ``tool_calls``.

    Its content is one call ``{name, arguments}`` or a list of calls, as JSON text or as values.

    Raises:
        DataError: It is neither.
    """
    given = message.get("content")
    value: Any = from_json(given) if isinstance(given, str) else given
    calls: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    if not calls or not all(_is_call(call) for call in calls):
        raise place.error(
            f"{what} has the role {role!r}, so its text must be a call {{name, arguments}} or a list of calls in JSON, "
            f"got {shown(given)}. To read it as plain text, set data.roles: {{{role}: assistant}}"
        )
    made = [call if "function" in call else {"type": "function", "function": dict(call)} for call in calls]
    return {**message, "content": "", "tool_calls": read_calls(made, what, place)}


def joined(messages: Sequence[Message], are_calls: Sequence[bool]) -> Chat:
    """Messages, with each message that holds only calls joined to the assistant message before it, as one turn."""
    chat: list[Message] = []
    for message, is_calls in zip(messages, are_calls, strict=True):
        if is_calls and chat and chat[-1]["role"] == "assistant":
            calls = [*chat[-1].get("tool_calls", ()), *message["tool_calls"]]
            chat[-1] = {**chat[-1], "tool_calls": calls}
        else:
            chat.append(message)
    return tuple(chat)


def _is_call(value: Any) -> bool:
    call = value.get("function", value) if isinstance(value, Mapping) else None
    return isinstance(call, Mapping) and isinstance(call.get("name"), str)


def _call(call: dict[str, Any], place: Place) -> dict[str, Any]:
    """A call with its arguments as an object. OpenAI has them as JSON text, which templates would quote."""
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(dict(call["function"]), place)}
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        decoded = from_json(arguments)
        if isinstance(decoded, dict):
            place.notes.append(ARGUMENTS_DECODED)
            return {**call, "arguments": decoded}
    return call

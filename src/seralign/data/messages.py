"""Reads a value of a row as text, as a conversation or as token ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from seralign.data import message_keys
from seralign.data.calls import call_message, joined, read_calls
from seralign.data.content import Chat, Ids, Message
from seralign.data.place import Place
from seralign.data.roles import KNOWN, is_calls, likely_role, our_role
from seralign.data.values import from_json, plain, shown

ROLE_MAPPED = "role mapped"

TEXT_PARTS = ("text", "input_text", "output_text")
# Keys that can replace the content of an assistant message.
INSTEAD = ("tool_calls", "function_call", "reasoning_content", "thinking", "reasoning", "refusal")

_STORED = re.compile(r"\s*(?:(?:array\()?\s*\[\s*)?\{")
_ROLE = re.compile(r"""['"](?:role|from)['"]\s*:\s*['"](\w+)['"]""")
_PAIRS = re.compile(r"""\s*\[\s*[\[(]\s*['"](\w+)['"]\s*,\s*['"]""")
_CONTENT = re.compile(r"""['"](?:content|value)['"]\s*:""")


def read_text(value: Any, name: str, place: Place) -> str | Chat:
    """Read a column of text or of messages (``{role, content}`` or ``{from, value}``, one or a list).

    Text stays text, even if it is JSON.

    Raises:
        DataError: It is null or of another type, a role is unknown, or a part of a content is not text.
    """
    if isinstance(value, str):
        return value
    items = [value] if isinstance(value, Mapping) else value
    if isinstance(items, list | tuple) and items and all(isinstance(item, Mapping) for item in items):
        messages = [_message(item, number, name, place) for number, item in enumerate(items, start=1)]
        roles = [item.get("role") or item.get("from") for item in items]
        return joined(messages, [is_calls(str(role), place.reading.roles) for role in roles])
    raise place.error(f"{name} must be text or a list of {{role, content}} messages, got {shown(value)}")


def read_ids(value: Any, name: str, place: Place) -> Ids:
    """Read a column of token ids.

    Raises:
        DataError: It is null, or not a list of token ids.
    """
    if not isinstance(value, list | tuple):
        raise place.error(f"{name} must be a list of token ids, got {shown(value)}")
    for number, item in enumerate(value, start=1):
        if type(item) is not int or item < 0:
            raise place.error(f"{name} must be a list of token ids; number {number} is {shown(item)}")
    return tuple(value)


def stored_role(text: str, roles: Mapping[str, str]) -> str | None:
    """The first role of a conversation or message that is stored in a text: as JSON (encoded once or twice), as pairs
    of role and content, or as Python prints it. None if the text holds none.
    """
    if text.lstrip().startswith('"'):
        inner = from_json(text)
        return stored_role(inner, roles) if isinstance(inner, str) and not inner.lstrip().startswith('"') else None
    role = _ROLE.search(text) if _STORED.match(text) and _CONTENT.search(text) else _PAIRS.match(text)
    ours = our_role(role[1], roles) if role else None
    return ours if ours in KNOWN else None


def refuse_stored_chat(text: str, name: str, place: Place) -> None:
    """Reject a conversation that is stored as a string.

    Raises:
        DataError: The text is such a conversation.
    """
    if stored_role(text, place.reading.roles):
        raise place.error(
            f"{name} is a string that holds a conversation, {text[:40]!r}…; store it as a list of messages instead"
        )


def _message(item: Mapping[str, Any], number: int, name: str, place: Place) -> Message:
    # A table gives every message the keys of all messages; the nulls are not in the original data.
    message = {key: plain(value) for key, value in item.items() if value is not None}
    if message.get("tool_calls") == []:
        del message["tool_calls"]
    what = f"message {number} of {name}"
    if "from" in message and "role" not in message:
        message["role"] = message.pop("from")
        if "content" not in message and "value" in message:
            message["content"] = message.pop("value")
    message_keys.check(message, what, name, place)
    theirs = message.get("role")
    message["role"] = _role(theirs, what, place)
    if isinstance(theirs, str) and is_calls(theirs, place.reading.roles):
        return call_message(message, theirs, what, place)
    message["content"] = _content(message, what, name, place)
    if "tool_calls" in message:
        message["tool_calls"] = read_calls(message["tool_calls"], what, place)
    return message


def _role(role: Any, what: str, place: Place) -> str:
    if not isinstance(role, str):
        raise place.error(f"{what} needs a text 'role', got {shown(role)}")
    ours = our_role(role, place.reading.roles)
    if ours is None:
        raise place.error(
            f"{what} has the unknown role {role!r}; known are {', '.join(KNOWN)}. "
            f"Map it to a known role, e.g. data.roles: {{{role}: {likely_role(role)}}}"
        )
    if ours != role:
        place.notes.append(ROLE_MAPPED)
    return ours


def _content(message: Message, what: str, name: str, place: Place) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message["role"] == "assistant" and any(key in message for key in INSTEAD):
        # Templates that join the content to other text need a string; an empty one adds nothing.
        return ""
    if isinstance(content, Mapping) and "type" in content:
        content = [content]
    if not isinstance(content, list | tuple):
        raise place.error(f"{what} needs a text 'content', got {shown(content)}")
    return "".join(_part(part, number, what, name, place) for number, part in enumerate(content, start=1))


def _part(part: Any, number: int, what: str, name: str, place: Place) -> str:
    if not isinstance(part, Mapping):
        raise place.error(f"{what}: part {number} of its content must be {{type: text, text: ...}}, got {shown(part)}")
    kind, text = part.get("type"), part.get("text")
    if kind in TEXT_PARTS and isinstance(text, str):
        message_keys.check_part(part, f"{what}: part {number} of its content", name, place)
        return text
    raise place.error(
        f"{what}: part {number} of its content has the type {kind!r}; only text parts, with a 'text', are supported"
    )

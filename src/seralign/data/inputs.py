"""Columns that belong to a prompt: system message, earlier turns, tools, documents, template settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seralign.config.data import RESERVED_SETTINGS, is_truth_as_text
from seralign.data.columns import MEDIA, WITH_PROMPT, Row
from seralign.data.content import NOTHING, Chat, Content, Inputs, Message, is_chat, is_ids
from seralign.data.messages import read_text
from seralign.data.place import Place
from seralign.data.values import from_json, plain, shown

JSON_COLUMN = "tools or settings parsed from JSON text"


@dataclass(frozen=True, slots=True)
class Around:
    """Context of a prompt: the system message and earlier turns before it, and the template's other inputs."""

    before: Chat
    inputs: Inputs
    columns: tuple[str, ...]


def read_around(row: Row, place: Place) -> Around:
    """Read the columns that give a prompt's context; empty values are ignored.

    Raises:
        DataError: A value has the wrong type, or the row has images, audio or video.
    """
    for name in MEDIA:
        if row.get(name):
            raise place.error(f"{name} is not empty, but only text is supported; leave out the row or the column")
    given = tuple(name for name in WITH_PROMPT if row.get(name))
    system: tuple[Message, ...] = ()
    if "system" in given:
        if not isinstance(row["system"], str):
            raise place.error(f"system must be text, got {shown(row['system'])}")
        if row["system"].strip():
            system = ({"role": "system", "content": row["system"]},)
    settings = _settings(row["chat_template_kwargs"], place) if "chat_template_kwargs" in given else {}
    tools = _objects(row["tools"], "tools", place) if "tools" in given else ()
    documents = _objects(row["documents"], "documents", place) if "documents" in given else ()
    history = _history(row["history"], place) if "history" in given else ()
    columns = tuple(name for name in given if name != "system" or system)
    inputs = Inputs(tools, documents, settings) if tools or documents or settings else NOTHING
    return Around((*system, *history), inputs, columns)


def with_before(prompt: Content, around: Around, place: Place) -> Content:
    """The prompt with its system message and its earlier turns before it.

    Raises:
        DataError: The prompt is plain text, which cannot have them, or it has a different system message.
    """
    if is_ids(prompt):
        return prompt
    if not is_chat(prompt):
        if around.columns:
            raise place.error(
                f"{', '.join(around.columns)} cannot be used with a plain text prompt; set data.as_chat: true to turn "
                "the rows into conversations"
            )
        return prompt
    before = around.before
    own = next((message for message in prompt if message["role"] in ("system", "developer")), None)
    if own is not None and before and before[0]["role"] == "system":
        if own["content"].strip() != before[0]["content"].strip():
            raise place.error("the column system differs from the system message in the prompt")
        before = before[1:]
    begins = 1 if own is not None and own is prompt[0] else 0
    history = tuple(message for message in before if message["role"] != "system")
    if history and prompt[begins : begins + len(history)] == history:
        before = before[: len(before) - len(history)]
    if own is not None and own is prompt[0] and before:
        return (own, *before, *prompt[1:])
    return (*before, *prompt)


def without_before(prompt: Content, responses: Sequence[Content], around: Around) -> list[Content]:
    """Responses without the system message and the earlier turns, if all responses begin with them and the prompt,
    when given as messages, does not.
    """
    size = len(around.before)
    if not is_chat(prompt) or prompt[:size] == around.before:
        return list(responses)
    whole = all(is_chat(each) and each[: size + len(prompt)] == (*around.before, *prompt) for each in responses)
    return [each[size:] for each in responses] if whole else list(responses)


def _history(value: Any, place: Place) -> Chat:
    """Earlier turns: messages, or pairs of user text and answer."""
    if not isinstance(value, list | tuple):
        raise place.error(f"history must be a list of [user, assistant] pairs or of messages, got {shown(value)}")
    if all(isinstance(item, Mapping) for item in value):
        read = read_text(value, "history", place)
        return read if is_chat(read) else ()
    messages: list[Message] = []
    for number, turn in enumerate(value, start=1):
        if not (isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
            raise place.error(f"history must be a list of [user, assistant] pairs; number {number} is {shown(turn)}")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return tuple(messages)


def _objects(value: Any, name: str, place: Place) -> tuple[dict[str, Any], ...]:
    value = _decoded(value, place)
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise place.error(f"{name} must be a list of objects, got {shown(value)}")
    return tuple(plain(item) for item in value)


def _settings(value: Any, place: Place) -> dict[str, Any]:
    value = _decoded(value, place)
    if not isinstance(value, Mapping):
        raise place.error(f"chat_template_kwargs must be an object, got {shown(value)}")
    taken = [name for name in value if name in RESERVED_SETTINGS]
    if taken:
        raise place.error(f"chat_template_kwargs.{taken[0]} is not a setting of a template; leave it out")
    for name, item in value.items():
        if is_truth_as_text(item):
            raise place.error(
                f"chat_template_kwargs.{name} is the text {item!r}, which a template treats as true; "
                "give a truth value, without quotation marks"
            )
    return {name: plain(item) for name, item in value.items() if item is not None}


def _decoded(value: Any, place: Place) -> Any:
    """A list or object; parsed if the column has it as JSON text, since text has no other meaning here."""
    if not isinstance(value, str):
        return value
    decoded = from_json(value)
    if decoded is None:
        return value
    place.notes.append(JSON_COLUMN)
    return decoded

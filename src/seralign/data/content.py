"""What a prompt or a response is before tokens: plain text, a conversation, or token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

from seralign.errors import DataError

Message = dict[str, Any]
Chat = tuple[Message, ...]
Ids = tuple[int, ...]
Content = str | Chat | Ids
"""Plain text, a conversation, or token ids."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with none, one or two responses, all text, all conversations, or all token ids.

    A response to a conversation is one assistant message. ``where``: the file and the row, for messages.
    """

    prompt: Content
    responses: tuple[Content, ...]
    where: str


def is_chat(content: Content) -> TypeGuard[Chat]:
    """Whether the content is a conversation."""
    return isinstance(content, tuple) and len(content) > 0 and isinstance(content[0], dict)


def is_ids(content: Content) -> TypeGuard[Ids]:
    """Whether the content is token ids; there may be none of them."""
    return isinstance(content, tuple) and not is_chat(content)


def as_chat(example: Example) -> Example:
    """A plain prompt with plain responses as a user's turn and the assistant's answers; others as they are."""
    if not isinstance(example.prompt, str):
        return example
    answers = tuple(({"role": "assistant", "content": response},) for response in example.responses)
    return Example(({"role": "user", "content": example.prompt},), answers, example.where)


def read_text(value: Any, name: str, where: str) -> str | Chat:
    """The value of a column of text or of ``{role, content}`` messages.

    Raises:
        DataError: It is null, or something else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        return tuple(_message(item, number, name, where) for number, item in enumerate(value, start=1))
    raise DataError(f"{where}: {name} must be text or a list of {{role, content}} messages, got {_shown(value)}")


def read_ids(value: Any, name: str, where: str) -> Ids:
    """The value of a column of token ids.

    Raises:
        DataError: It is null, or something else.
    """
    if isinstance(value, list | tuple) and all(type(item) is int for item in value):
        return tuple(value)
    raise DataError(f"{where}: {name} must be a list of token ids, got {_shown(value)}")


def _message(item: Message, number: int, name: str, where: str) -> Message:
    # A table gives every message every key that any message has; the nulls are not the author's.
    message = {key: value for key, value in item.items() if value is not None}
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise DataError(f"{where}: message {number} of {name} needs a text {key!r}, got {_shown(message.get(key))}")
    return message


def _shown(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"

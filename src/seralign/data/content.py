"""The content of a prompt or response before tokenization: plain text, a conversation, or token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

Message = dict[str, Any]
Chat = tuple[Message, ...]
Ids = tuple[int, ...]
Content = str | Chat | Ids
"""Plain text, a conversation, or token ids."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of a row to the chat template besides messages: tools, documents, settings such as ``enable_thinking``."""

    tools: tuple[dict[str, Any], ...] = ()
    documents: tuple[dict[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """The inputs that are present, by the names of their columns."""
        found = {"tools": self.tools, "documents": self.documents, "chat_template_kwargs": dict(self.settings)}
        return {name: value for name, value in found.items() if value}

    def __bool__(self) -> bool:
        return bool(self.tools or self.documents or self.settings)


NOTHING = Inputs()


@dataclass(frozen=True, slots=True)
class Unencoded:
    """An example before tokenization: a prompt with any number of responses, all text, all conversations or all ids.

    A response to a conversation is one assistant message. ``where`` names the file and the row in messages.
    """

    prompt: Content
    responses: tuple[Content, ...]
    where: str
    inputs: Inputs = NOTHING


def is_chat(content: Content) -> TypeGuard[Chat]:
    """Whether the content is a conversation."""
    return isinstance(content, tuple) and len(content) > 0 and isinstance(content[0], dict)


def is_ids(content: Content) -> TypeGuard[Ids]:
    """Whether the content is token ids, possibly none."""
    return isinstance(content, tuple) and not is_chat(content)

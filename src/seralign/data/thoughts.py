"""Thoughts in a separate field, passed to a chat template under the field name that it reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from seralign.data.content import Chat, Inputs, Message
from seralign.data.rendering import Conversation

Apply = Callable[[Chat, Inputs, bool], str]
"""From messages, other inputs and whether to add the generation prompt to text."""

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Fields of a message's thought in datasets and templates."""
THOUGHT = re.compile(r"(</?(?:think|thinking|thought|reasoning)>)")
OPENED = re.compile(r"<(think|thinking|thought|reasoning)>\s*$")
THOUGHT_RENAMED = "thought moved to the field that the chat template reads"

# Marks a text; real text has no private-use characters.
SENTINEL = "\ue0fe"


def with_thoughts_named(apply: Apply, conversation: Conversation) -> Conversation:
    """A conversation with its thoughts in the field from which the template writes most of them. Unchanged if they are
    already there, or if the template writes no thoughts.
    """
    messages = [*conversation.prompt, *(message for (message,) in conversation.answers)]
    if not any(_fields(message) for message in messages):
        return conversation
    best, most = conversation, _written(apply, conversation)
    if most >= _thoughts(conversation):
        return conversation
    for field in REASONING:
        renamed = _renamed(conversation, field)
        # The template may fail because it does not expect this field.
        with suppress(Exception):
            written = _written(apply, renamed)
            if written > most:
                best, most = renamed, written
    return best


def thought_in_content(message: Message, prompt: str) -> Message:
    """An answer with its thought in its content, as a model writes it, if the generation prompt opens a thought; other
    answers are unchanged.
    """
    opened, fields = OPENED.search(prompt[-40:]), _fields(message)
    if opened is None or len(fields) != 1:
        return message
    tag, content = opened[1], message["content"].lstrip("\n")
    rest = {key: value for key, value in message.items() if key != fields[0]}
    return {**rest, "content": f"<{tag}>\n{message[fields[0]].strip()}\n</{tag}>\n\n{content}"}


def _fields(message: Message) -> list[str]:
    return [key for key in REASONING if isinstance(message.get(key), str) and message[key].strip()]


def _thoughts(conversation: Conversation) -> int:
    """The number of thoughts that the template should write, counted for each rendering."""
    times = max(1, len(conversation.answers))
    before = sum(bool(_fields(message)) for message in conversation.prompt)
    return times * before + sum(bool(_fields(message)) for (message,) in conversation.answers)


def _written(apply: Apply, conversation: Conversation) -> int:
    """The number of thoughts that the template writes, over all answers."""
    prompt, inputs = _marked(conversation.prompt), conversation.inputs
    if not conversation.answers:
        return apply(prompt, inputs, True).count(SENTINEL)
    return sum(apply((*prompt, *_marked(answer)), inputs, False).count(SENTINEL) for answer in conversation.answers)


def _marked(messages: Iterable[Message]) -> Chat:
    return tuple({**message, **dict.fromkeys(_fields(message)[:1], SENTINEL)} for message in messages)


def _renamed(conversation: Conversation, field: str) -> Conversation:
    answers = tuple(tuple(_in_field(answer, field)) for answer in conversation.answers)
    return replace(conversation, prompt=tuple(_in_field(conversation.prompt, field)), answers=answers)


def _in_field(messages: Iterable[Message], field: str) -> Iterator[Message]:
    for message in messages:
        fields = _fields(message)
        same = len({message[key].strip() for key in fields}) == 1
        bare = {key: value for key, value in message.items() if key not in REASONING}
        yield {**bare, field: message[fields[0]]} if same else message

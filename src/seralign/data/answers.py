"""Renders a prompt and its answers with a chat template, and checks that the template writes everything it was given.

All functions take a function that applies the template, so they run wherever the template does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from seralign.data.content import Chat, Inputs, Message
from seralign.data.rendering import Conversation, LeftOut, Rendered, TemplateRefusal
from seralign.data.stand_ins import beside, leaves_out
from seralign.data.thoughts import (
    OPENED,
    REASONING,
    SENTINEL,
    THOUGHT,
    THOUGHT_RENAMED,
    Apply,
    thought_in_content,
    with_thoughts_named,
)

# Stands in for an answer; real text has no private-use characters.
PLACEHOLDER = "\ue0ff"
STAND_IN = {"role": "assistant", "content": PLACEHOLDER}
LAST_WORD = re.compile(r"\W*\w+\W*\Z")

ANSWER_LEFT_OUT = "chat template leaves out a part of the answer"
PROMPT_LEFT_OUT = "chat template leaves out a part of the prompt"
THOUGHT_KEPT = "thought kept although the chat template leaves it out"
THOUGHT_OPEN = "response does not close the thought that the prompt opens"
TOOLS_UNUSED = "chat template does not use tools"
DOCUMENTS_UNUSED = "chat template does not use documents"


def render_chat(apply: Apply, conversation: Conversation, careful: bool) -> Rendered | LeftOut:
    """Render the text of a prompt and of each answer; an empty answer has an empty text.

    The prompt ends with the template's generation prompt. A response is what the template writes after it, including
    the end of turn. Joined, they are what a model served with this template reads and writes. If the template strips
    the thought of an answer, the answer's own text follows the generation prompt. If it reads thoughts from another
    field than the row uses, they are passed in that field.

    Args:
        apply: Applies the template.
        conversation: Messages and answers.
        careful: Always check whether the template reorders messages, even without a sign of it.

    Raises:
        TemplateRefusal: The template writes a part of the prompt into the response.
    """
    named = with_thoughts_named(apply, conversation)
    chat, inputs = named.prompt, named.inputs
    prompt = apply(chat, inputs, True)
    notes = [*([THOUGHT_RENAMED] * (named is not conversation)), *_unused(apply, chat, inputs, prompt)]
    responses = []
    for (message,) in named.answers:
        if not (message["content"].strip() or any(True for _ in beside(message))):
            responses.append("")
            continue
        text = _response(apply, chat, message, inputs, prompt)
        if careful or _repeats_prompt(chat, message, text):
            _check_order(apply, chat, message, inputs)
        if not _is_whole(apply, chat, message, inputs, text, prompt):
            text = _mended(apply, chat, thought_in_content(message, prompt), inputs, prompt)
            if text is None:
                return LeftOut(ANSWER_LEFT_OUT)
            notes.append(THOUGHT_KEPT)
        opened = OPENED.search(prompt[-40:])
        if opened and f"</{opened[1]}>" not in text:
            notes.append(THOUGHT_OPEN)
        responses.append(text)
    return Rendered(prompt, tuple(responses), tuple(dict.fromkeys(notes)))


def _response(apply: Apply, chat: Chat, message: Message, inputs: Inputs, prompt: str) -> str:
    """What the template writes for an answer after ``prompt``, including its end of turn.

    Some templates render the prompt differently once it is answered. Then the answer's place is found by rendering
    another answer in its place.
    """
    full = apply((*chat, message), inputs, False)
    if not full.startswith(prompt):
        shared = os.path.commonprefix([full, apply((*chat, STAND_IN), inputs, False)])  # noqa: RUF071
        prompt = _before_the_answer(shared, prompt)
    # Text after the end of turn, such as a line break, is never sampled.
    return full[len(prompt) :].rstrip()


def _before_the_answer(shared: str, prompt: str) -> str:
    """The part of ``shared`` that the generation prompt already has; ``shared`` is what precedes every answer.

    If both end with the same mark, such as ``[/INST]``, white space after it that only ``shared`` has belongs to the
    answer.
    """
    mark, space = shared.rstrip(), prompt[len(prompt.rstrip()) :]
    if _last_word(mark) != _last_word(prompt.rstrip()) or not shared[len(mark) :].startswith(space):
        return shared
    return mark + space


def _last_word(text: str) -> str:
    found = LAST_WORD.search(text[-40:])
    return found[0] if found else ""


def _is_whole(apply: Apply, chat: Chat, message: Message, inputs: Inputs, text: str, prompt: str) -> bool:
    """Whether a response contains every part of an answer, each in a separate place."""
    return writes(message, text, prompt) and not leaves_out(apply, chat, (message,), inputs, False)


def writes(message: Message, text: str, prompt: str) -> bool:
    """Whether a response contains every part of an answer: content, thoughts, tool calls.

    White space around the content and around thought tags may differ. Arguments may be formatted in any way, but each
    name and value must occur. A thought tag at the end of the prompt opens the answer's thought.
    """
    pieces = _pieces(message["content"])
    if pieces and prompt.rstrip().endswith(pieces[0]) and THOUGHT.fullmatch(pieces[0]):
        pieces = pieces[1:]
    at = 0
    for piece in pieces:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return all(_has(text, value) for value in beside(message))


def _pieces(content: str) -> list[str]:
    return [piece.strip() for piece in THOUGHT.split(content) if piece.strip()]


def _has(text: str, value: Any) -> bool:
    if not isinstance(value, str):
        return any(form in text for form in (json.dumps(value), str(value)))
    bare = value.strip()
    forms = (bare, json.dumps(bare, ensure_ascii=False)[1:-1], json.dumps(bare)[1:-1])
    return any(form in text for form in forms)


def _repeats_prompt(chat: Chat, message: Message, text: str) -> bool:
    """Whether a response seems to contain a message of the prompt in addition to the answer."""
    around = text
    for piece in _pieces(message["content"]):
        around = around.replace(piece, "", 1)
    contents = (earlier["content"].strip() for earlier in chat)
    return any(content in around for content in contents if content)


def _check_order(apply: Apply, chat: Chat, message: Message, inputs: Inputs) -> None:
    """Mark every message of the prompt and look for the marks in the response."""
    marked = tuple({**earlier, "content": earlier["content"] + SENTINEL} for earlier in chat)
    text = _response(apply, marked, message, inputs, apply(marked, inputs, True))
    if SENTINEL in text:
        raise TemplateRefusal("it writes a part of the prompt into the response")


def _mended(apply: Apply, chat: Chat, message: Message, inputs: Inputs, prompt: str) -> str | None:
    """A response with the thought that the template leaves out; None if more than that is missing."""
    text = _response(apply, chat, message, inputs, prompt)
    whole = _is_whole(apply, chat, message, inputs, text, prompt)
    return text if whole else _with_thought(apply, chat, message, inputs, prompt)


def _with_thought(apply: Apply, chat: Chat, message: Message, inputs: Inputs, prompt: str) -> str | None:
    """A response made of the answer's own text, for a template that strips its thought.

    None if more than the thought is missing, or if the generation prompt opens with text that the answer lacks.
    """
    content = message["content"]
    shown = apply((*chat, STAND_IN), inputs, False)
    bare = apply(chat, inputs, False)
    place = shown.find(PLACEHOLDER)
    header, end = shown[len(bare) : place], shown[place + 1 :].rstrip()
    last = (THOUGHT.split(content)[-1]).strip()
    stripped = _response(apply, chat, message, inputs, prompt)
    only_the_thought = "</" in content and writes({"role": "assistant", "content": last}, stripped, "")
    if place < 0 or any(True for _ in beside(message)) or not only_the_thought:
        return None
    if not (shown.startswith(bare) and prompt.startswith(bare + header)):
        return None
    opening = prompt[len(bare + header) :]
    if content.startswith(opening):
        return content[len(opening) :] + end
    begin = content.lstrip()
    if begin.startswith(opening.strip()):
        return begin.removeprefix(opening.strip()).lstrip() + end
    # The prompt has opened the thought, and the answer's text continues it, as the model wrote it.
    tags, opened = THOUGHT.findall(content), OPENED.fullmatch(opening)
    return begin + end if opened and tags[:1] == [f"</{opened[1]}>"] else None


def _unused(apply: Apply, chat: Chat, inputs: Inputs, prompt: str) -> Iterator[str]:
    """Inputs of the prompt that the template does not use. It may strip the thoughts of earlier turns."""
    kept = tuple(_without_thoughts(message) for message in chat)
    if not all(writes(message, prompt, "") for message in kept) or leaves_out(apply, (), kept, inputs, True):
        yield PROMPT_LEFT_OUT
    if inputs.tools and apply(chat, Inputs((), inputs.documents, inputs.settings), True) == prompt:
        yield TOOLS_UNUSED
    if inputs.documents and apply(chat, Inputs(inputs.tools, (), inputs.settings), True) == prompt:
        yield DOCUMENTS_UNUSED


def _without_thoughts(message: Message) -> Message:
    content = THOUGHT.split(message["content"])[-1]
    return {**{key: value for key, value in message.items() if key not in REASONING}, "content": content}

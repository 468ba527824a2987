"""What a chat template makes of a prompt and its answers, and whether it writes all of what it was given.

Everything here takes a function that applies the template, so it runs wherever the template does.
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

# Stands in for an answer; private-use characters are in no real text.
PLACEHOLDER = "\ue0ff"
STAND_IN = {"role": "assistant", "content": PLACEHOLDER}
LAST_WORD = re.compile(r"\W*\w+\W*\Z")

ANSWER_LEFT_OUT = "chat template leaves out a part of the answer"
PROMPT_LEFT_OUT = "chat template leaves out a part of the prompt"
THOUGHT_KEPT = "thought kept that the chat template leaves out"
THOUGHT_OPEN = "response leaves the thought open that the prompt begins"
TOOLS_UNUSED = "chat template does not use tools"
DOCUMENTS_UNUSED = "chat template does not use documents"


def render_chat(apply: Apply, conversation: Conversation, careful: bool) -> Rendered | LeftOut:
    """The text of a prompt and of each answer; an empty answer has none.

    The prompt ends with the template's generation prompt; a response is what the template writes after it, end of
    turn included, so that the two joined are what a model served with the template reads and writes. Where the
    template strips the thought of an answer, the answer's own text is put after the generation prompt; where it reads
    thoughts from another field than the row has them in, they are given to it in that one.

    Args:
        apply: Applies the template.
        conversation: Messages and answers.
        careful: Look whether the template reorders messages even where nothing seems to be amiss.

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
    """What the template writes after ``prompt`` for an answer, with its end of turn.

    Where the template renders the prompt differently once it is answered, the answer's place is found by rendering
    another answer in its stead.
    """
    full = apply((*chat, message), inputs, False)
    if not full.startswith(prompt):
        shared = os.path.commonprefix([full, apply((*chat, STAND_IN), inputs, False)])  # noqa: RUF071
        prompt = _before_the_answer(shared, prompt)
    # What follows the end of turn, such as a line break, is never sampled.
    return full[len(prompt) :].rstrip()


def _before_the_answer(shared: str, prompt: str) -> str:
    """What of ``shared``, which comes before every answer, the generation prompt already has: where both end with the
    same mark, such as ``[/INST]``, white space that only ``shared`` has after it is the model's to write.
    """
    mark, space = shared.rstrip(), prompt[len(prompt.rstrip()) :]
    if _last_word(mark) != _last_word(prompt.rstrip()) or not shared[len(mark) :].startswith(space):
        return shared
    return mark + space


def _last_word(text: str) -> str:
    found = LAST_WORD.search(text[-40:])
    return found[0] if found else ""


def _is_whole(apply: Apply, chat: Chat, message: Message, inputs: Inputs, text: str, prompt: str) -> bool:
    """Whether a response has all that an answer says, each part in a place of its own."""
    return writes(message, text, prompt) and not leaves_out(apply, chat, (message,), inputs, False)


def writes(message: Message, text: str, prompt: str) -> bool:
    """Whether a response has all that an answer says: content, thoughts, calls of tools.

    White space around the content and around the tags of a thought is the template's; so is how arguments are
    written, but each of their names and values has to be there. A tag that the prompt ends with opens the thought.
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
    """Whether a response seems to hold a message of the prompt beside the answer itself."""
    around = text
    for piece in _pieces(message["content"]):
        around = around.replace(piece, "", 1)
    contents = (earlier["content"].strip() for earlier in chat)
    return any(content in around for content in contents if content)


def _check_order(apply: Apply, chat: Chat, message: Message, inputs: Inputs) -> None:
    """Mark every message of the prompt, and look for the marks in the response."""
    marked = tuple({**earlier, "content": earlier["content"] + SENTINEL} for earlier in chat)
    text = _response(apply, marked, message, inputs, apply(marked, inputs, True))
    if SENTINEL in text:
        raise TemplateRefusal("it writes a part of the prompt into the response")


def _mended(apply: Apply, chat: Chat, message: Message, inputs: Inputs, prompt: str) -> str | None:
    """A response with a thought that the template leaves out; None where more than that is missing."""
    text = _response(apply, chat, message, inputs, prompt)
    whole = _is_whole(apply, chat, message, inputs, text, prompt)
    return text if whole else _with_thought(apply, chat, message, inputs, prompt)


def _with_thought(apply: Apply, chat: Chat, message: Message, inputs: Inputs, prompt: str) -> str | None:
    """A response made of the answer's own text, where the template strips its thought; None where that is not all
    that is missing, or where the generation prompt opens with what the answer does not begin with.
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
    # As the model itself answered: its text goes on with the thought that the prompt has opened.
    tags, opened = THOUGHT.findall(content), OPENED.fullmatch(opening)
    return begin + end if opened and tags[:1] == [f"</{opened[1]}>"] else None


def _unused(apply: Apply, chat: Chat, inputs: Inputs, prompt: str) -> Iterator[str]:
    """What the template was given for the prompt and makes no use of. It may strip the thoughts of earlier turns."""
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

"""Finds where a prompt ends and its answers begin, in texts and conversations, before tokenization."""

from __future__ import annotations

from seralign.data import markers
from seralign.data.content import Chat, Content, is_chat
from seralign.data.place import Place

NO_SHARED_PROMPT = "no shared prompt"
NO_SHARED_MARK = "no prompt column and no turn marker that both answers share"
SEVERAL_TURNS = "answer of several turns"
NOT_THE_PROMPT = "answers do not begin with the prompt"
NOT_THE_ASSISTANT = "answer is not the assistant's"

Parts = tuple[Content, Content, Content]


def split(prompt: Content | None, first: Content, second: Content, place: Place) -> Parts | str:
    """Split a row into the prompt and two answers without it. An answer in a conversation is one assistant message.

    Args:
        prompt: The prompt; None if the answers begin with it.
        first: An answer, or the whole text or conversation that ends with it.
        second: The other answer, of the same kind.
        place: The row, for messages.

    Returns:
        Prompt and answers, or the reason to drop the row.

    Raises:
        DataError: The prompt is empty or ends with an answer, or text and conversations are mixed.
    """
    if is_chat(first) and is_chat(second):
        parts = _split_chat(prompt, first, second, place)
    elif is_chat(first) or is_chat(second):
        raise place.error("one response is text and the other a list of messages")
    elif prompt is not None and is_chat(prompt):
        parts = prompt, answer(first), answer(second)
    elif prompt is not None:
        parts = prompt, first, second
    else:
        parts = _split_text(str(first), str(second))
    if not isinstance(parts, str):
        check_prompt(parts[0], place)
    return parts


def check_prompt(prompt: Content, place: Place) -> None:
    """Check that a prompt can be answered.

    Raises:
        DataError: The prompt is empty, or a conversation that ends with an assistant message.
    """
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise place.error("the prompt is empty")
    if is_chat(prompt) and prompt[-1]["role"] == "assistant":
        raise place.error("the prompt ends with an assistant message; it must end with the message to answer")


def answer(content: Content) -> Content:
    """A text as an assistant message; other content unchanged."""
    return ({"role": "assistant", "content": content},) if isinstance(content, str) else content


def _split_chat(prompt: Content | None, first: Chat, second: Chat, place: Place) -> Parts | str:
    if prompt is None or isinstance(prompt, str):
        shared = _shared_messages(first, second)
        if prompt is not None and all(message["role"] == "assistant" for message in (first[0], second[0])):
            shared, border = ({"role": "user", "content": prompt},), 0
        elif not shared:
            return NO_SHARED_PROMPT if prompt is None else NOT_THE_PROMPT
        elif prompt is not None and prompt.strip() not in (message["content"].strip() for message in shared):
            raise place.error("chosen and rejected do not begin with the messages of prompt")
        else:
            border = len(shared)
    else:
        repeated = first[: len(prompt)] == prompt == second[: len(prompt)]
        shared, border = prompt, len(prompt) if repeated else 0
        begun = any(message["role"] != "assistant" for message in (first[0], second[0]))
        if not repeated and begun and (len(first) > 1 or len(second) > 1):
            return NOT_THE_PROMPT
    answers = first[border:], second[border:]
    if any(message["role"] != "assistant" for each in answers for message in each[-1:]):
        return NOT_THE_ASSISTANT
    if any(len(each) != 1 for each in answers):
        return SEVERAL_TURNS
    return shared, *answers


def _shared_messages(first: Chat, second: Chat) -> Chat:
    """The messages that both begin with; leaves at least one message in each."""
    size = 0
    while size < min(len(first), len(second)) - 1 and first[size] == second[size]:
        size += 1
    return first[:size]


def _split_text(first: str, second: str) -> Parts | str:
    border = markers.border(first, second)
    prompt, answers = first[:border], (first[border:], second[border:])
    if not prompt.strip():
        return NO_SHARED_MARK
    if markers.ASSISTANT_TURN in "\n\n" + prompt and any(markers.HUMAN_TURN in each for each in answers):
        return SEVERAL_TURNS
    return prompt, *answers

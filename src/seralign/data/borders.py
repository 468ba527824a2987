"""Where a prompt ends and its answers begin, in texts and conversations, before tokens."""

from __future__ import annotations

import os

from seralign.data.content import Chat, Content, is_chat, is_ids
from seralign.errors import DataError

HUMAN_TURN, ASSISTANT_TURN = "\n\nHuman:", "\n\nAssistant:"

NO_SHARED_PROMPT = "no shared prompt"
SEVERAL_TURNS = "answer of several turns"

Parts = tuple[Content, Content, Content]


def split(prompt: Content | None, first: Content, second: Content, where: str) -> Parts | str:
    """The prompt and the two answers, each free of the prompt; a conversation's answer is one assistant message.

    Args:
        prompt: The prompt, or None where the answers begin with it.
        first: An answer, or the whole text or conversation that it ends.
        second: The other one, of the same kind.
        where: The file and the row, for messages.

    Returns:
        Prompt and answers, or the reason to drop the row.

    Raises:
        DataError: The prompt is empty or ends with an answer, or the kinds do not go together.
    """
    if is_chat(first) and is_chat(second):
        parts = _split_chat(prompt, first, second, where)
    elif is_chat(first) or is_chat(second):
        raise DataError(f"{where}: one response is text and the other a list of messages")
    elif prompt is not None and is_chat(prompt):
        parts = prompt, _answer(first), _answer(second)
    elif prompt is not None:
        parts = prompt, first, second
    else:
        parts = _split_text(str(first), str(second))
    if not isinstance(parts, str):
        check_prompt(parts[0], where)
    return parts


def check_prompt(prompt: Content, where: str) -> None:
    """Refuse a prompt that nothing can answer.

    Raises:
        DataError: The prompt is empty, or a conversation that ends with an assistant message.
    """
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise DataError(f"{where}: the prompt is empty")
    if is_chat(prompt) and prompt[-1]["role"] == "assistant":
        raise DataError(f"{where}: the prompt ends with an assistant message; it must end with the one to answer")


def text_border(first: str, second: str) -> int:
    """Where the shared prompt of two texts ends: after the last ``Assistant:`` turn marker that they share, else at
    the last white space that they share, so never inside a word. A space belongs to the word after it, a line
    break to the prompt. 0 where there is no such place.
    """
    shared = common_start(first, second)
    marker = shared.rfind(ASSISTANT_TURN)
    if marker >= 0:
        return marker + len(ASSISTANT_TURN)
    space = max((index for index, character in enumerate(shared) if character.isspace()), default=-1)
    return space if shared[space : space + 1] == " " else space + 1


def common_start(first: str, second: str) -> str:
    """The longest common start of two texts."""
    return os.path.commonprefix([first, second])  # noqa: RUF071 (character by character is what is meant)


def _answer(content: Content) -> Content:
    return content if is_ids(content) else ({"role": "assistant", "content": content},)


def _split_chat(prompt: Content | None, first: Chat, second: Chat, where: str) -> Parts | str:
    if prompt is None or isinstance(prompt, str):
        shared = _shared_messages(first, second)
        if prompt is not None and len(first) == len(second) == 1:
            shared, border = ({"role": "user", "content": prompt},), 0
        elif not shared:
            return NO_SHARED_PROMPT
        elif prompt is not None and prompt.strip() not in (message["content"].strip() for message in shared):
            raise DataError(f"{where}: prompt is none of the messages that chosen and rejected begin with")
        else:
            border = len(shared)
    else:
        repeated = first[: len(prompt)] == prompt == second[: len(prompt)]
        shared, border = prompt, len(prompt) if repeated else 0
    answers = first[border:], second[border:]
    if any(len(answer) != 1 or answer[0]["role"] != "assistant" for answer in answers):
        return SEVERAL_TURNS
    return shared, *answers


def _shared_messages(first: Chat, second: Chat) -> Chat:
    """The messages that both begin with, at least one message left to each."""
    size = 0
    while size < min(len(first), len(second)) - 1 and first[size] == second[size]:
        size += 1
    return first[:size]


def _split_text(first: str, second: str) -> Parts | str:
    border = text_border(first, second)
    prompt, answers = first[:border], (first[border:], second[border:])
    if not prompt.strip():
        return NO_SHARED_PROMPT
    if ASSISTANT_TURN in prompt and any(HUMAN_TURN in answer for answer in answers):
        return SEVERAL_TURNS
    return prompt, *answers

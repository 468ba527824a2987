"""Turn markers in texts, and HH-RLHF's format, which writes a conversation as one text."""

from __future__ import annotations

import os
import re

from seralign.data.content import Chat, Message

HUMAN_TURN, ASSISTANT_TURN = "\n\nHuman:", "\n\nAssistant:"

# Markers before an answer in the texts of datasets and chat templates.
ANSWER_MARKS = (
    ASSISTANT_TURN,
    "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<|start_of_role|>assistant<|end_of_role|>",
    "<start_of_turn>model",
    "<|turn>model",
    "<|assistant|>",
    "<|Assistant|>",
    "<｜Assistant｜>",
    "<|CHATBOT_TOKEN|>",
    "<assistant>",
    "[/INST]",
    "### Response:",
    "### Assistant:",
    "### Answer:",
    "ASSISTANT:",
    "\nAssistant:",
    "\nAI:",
    "\nBot:",
    "\nAnswer:",
    "\nA:",
    "\nTL;DR:",
)
# Markers before a turn of anybody else.
OTHER_MARKS = (
    HUMAN_TURN,
    "<|im_start|>user",
    "<|im_start|>system",
    "<|start_header_id|>user<|end_header_id|>",
    "<|start_of_role|>user<|end_of_role|>",
    "<start_of_turn>user",
    "<|turn>user",
    "<|user|>",
    "<|User|>",
    "<｜User｜>",
    "<|USER_TOKEN|>",
    "[INST]",
    "### Instruction:",
    "### Human:",
    "### User:",
    "\nUSER:",
    "\nHuman:",
)
_ANSWER = re.compile("|".join(map(re.escape, ANSWER_MARKS)))
_STRONG = re.compile("|".join(re.escape(mark) for mark in (*ANSWER_MARKS[:14], *OTHER_MARKS)))
_TURN = re.compile(r"(?:\A|\r?\n[ \t]*\r?\n)\s*(Human|Assistant):")
_ANY_TURN = re.compile(r"^[ \t]*(human|assistant)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_INITIALS = re.compile(r"^[ \t]*H:.*^[ \t]*A:", re.MULTILINE | re.DOTALL)


def border(first: str, second: str) -> int:
    """Where the shared prompt of two texts ends: after the last answer marker that both share and the line breaks after
    it. A space belongs to the answer. 0 if they share no marker.
    """
    shared = os.path.commonprefix([first, second])  # noqa: RUF071 (character by character is what is meant)
    ends = [match.end() for match in _ANSWER.finditer("\n\n" + shared)]
    end = max(ends[-1] - 2, 0) if ends else 0
    while end and shared[end : end + 1] == "\n":
        end += 1
    return end


def other_turn(response: str) -> bool:
    """Whether a response contains a turn marker, apart from its own at the beginning."""
    text = "\n\n" + response.lstrip()
    own = _ANSWER.match(text) or _ANSWER.match(text, 2)
    return _STRONG.search(text, own.end() if own else 0) is not None


def ends_with_mark(text: str) -> bool:
    """Whether a text ends with an answer marker."""
    ends = [match.end() for match in _ANSWER.finditer("\n\n" + text)]
    return bool(ends) and ends[-1] == len(text) + 2


def in_turns(text: str) -> bool:
    """Whether a text contains the turn markers that datasets and chat templates use."""
    return _STRONG.search("\n\n" + text) is not None


def hh_turns(text: str, whole: bool = True) -> Chat | None:
    """Read a text of ``Human:`` and ``Assistant:`` turns as messages, without the white space around them.

    An empty answer at the end only asks for an answer and is not a message. Returns None if there are no turns.

    Args:
        text: The text.
        whole: Whether text before the first ``Human:`` is a system message; else a turn must come first.
    """
    start = _TURN.search(text) if whole else _TURN.match(text)
    if start is None or (start.start() and start[1] != "Human"):
        return None
    before, *pieces = _TURN.split(text)
    names, contents = pieces[::2], [content.strip() for content in pieces[1::2]]
    messages: list[Message] = [{"role": "system", "content": before.strip()}] if before.strip() else []
    messages += [
        {"role": "user" if name == "Human" else "assistant", "content": content}
        for name, content in zip(names, contents, strict=True)
    ]
    if messages[-1] == {"role": "assistant", "content": ""} and len(messages) > 1:
        messages.pop()
    return tuple(messages)


def holds_hh_turns(text: str) -> bool:
    """Whether one turn from ``hh_turns`` still seems to contain turns: a line that begins with a speaker's name in any
    case, or lines that begin with ``H:`` and ``A:``.
    """
    return _ANY_TURN.search(text) is not None or _INITIALS.search(text) is not None


def is_hh(text: str) -> bool:
    """Whether a text is written in turns of ``Human:`` and ``Assistant:``."""
    return _TURN.match(text) is not None and "Human:" in text and "Assistant:" in text

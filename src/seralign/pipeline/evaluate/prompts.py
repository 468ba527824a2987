"""The prompts of an evaluation, read the same for every policy, and how outputs of files find their prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass

from seralign.config import SourceConfig
from seralign.config.evaluate import EvaluateConfig
from seralign.data.content import Content, Inputs, is_chat, is_ids
from seralign.data.formats import read_prompt
from seralign.data.place import Reading
from seralign.data.raw import Drop
from seralign.data.sources import load_rows, say_left_out
from seralign.errors import DataError
from seralign.records import Prompt, content_id

KEY = "prompts"


@dataclass(frozen=True)
class Question:
    """A prompt of an evaluation.

    Args:
        prompt: What judges are shown. ``text`` is the prompt without any chat template: plain text as it is, and for a
            conversation of one user message its content. ``ids`` is empty.
        content: The prompt as text or messages.
        inputs: Tools and the like of its row.
        where: File and row, for messages.
    """

    prompt: Prompt
    content: Content
    inputs: Inputs
    where: str


def prompt_reading(config: EvaluateConfig) -> Reading:
    """How the prompts of an evaluation are read, the same for all policies."""
    return Reading(KEY, format=config.format, roles=config.roles)


def read_questions(source: SourceConfig, how: Reading) -> list[Question]:
    """Read the prompts of an evaluation, in order.

    Raises:
        DataError: the source cannot be read, a row is not a prompt or consists of token ids, or a prompt is repeated.
    """
    found: dict[str, Question] = {}
    rows = load_rows(source, KEY)
    say_left_out(rows, KEY)
    for row, where in rows.located():
        raw = read_prompt(row, where, how)
        if isinstance(raw, Drop):
            raise DataError(f"{where}: {raw.reason}; {KEY} must be prompts")
        if is_ids(raw.prompt):
            raise DataError(f"{where}: the prompt is token ids; a judge needs text or messages")
        question = make_question(raw.prompt, raw.inputs, where)
        other = found.setdefault(question.prompt.prompt_id, question)
        if other is not question:
            raise DataError(f"{where}: the same prompt as {other.where}; remove one of them, or it counts twice")
    return list(found.values())


def read_content(value: object, name: str, where: str, how: Reading) -> Content:
    """A value of a row as text or messages, read like a prompt.

    Raises:
        DataError: it is neither; names the row.
    """
    raw = read_prompt({"prompt": value}, where, how)
    if isinstance(raw, Drop):
        raise DataError(f"{where}: {name}: {raw.reason}")
    if is_ids(raw.prompt):
        raise DataError(f"{where}: {name} must be text or messages, got token ids")
    return raw.prompt


def join_key(content: Content) -> str:
    """The same for a text and for a conversation of one user message with this text."""
    if is_chat(content) and len(content) == 1 and content[0].get("role") == "user":
        only = content[0].get("content")
        if isinstance(only, str):
            return content_id(only)
    return content_id(content)


def shown_text(content: Content) -> str:
    """A prompt for people and for scorers, without any chat template."""
    if not is_chat(content):
        return str(content)
    if len(content) == 1 and content[0].get("role") == "user":
        return str(content[0].get("content") or "")
    turns = (f"{str(turn['role']).capitalize()}: {turn.get('content') or ''}" for turn in content)
    return "\n\n".join(turns)


def make_question(content: Content, inputs: Inputs, where: str) -> Question:
    """A prompt as judges are shown it."""
    given = inputs.given()
    prompt = Prompt(
        content_id([join_key(content), given]),
        shown_text(content),
        (),
        json.dumps(content, ensure_ascii=False) if is_chat(content) else None,
        json.dumps(given, ensure_ascii=False) if given else None,
    )
    return Question(prompt, content, inputs, where)

"""The columns that rows are read from, and messages about columns that are missing or unused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seralign.data.place import Place
from seralign.data.roles import our_role
from seralign.errors import DataError

Row = Mapping[str, Any]

TOKENIZED = (
    ("prompt_ids", "chosen_ids", "rejected_ids"),
    ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids"),
)
EXPLICIT = ("prompt", "chosen", "rejected")
CONVERSATIONS = ("messages", "conversations")
LABELLED = ("prompt", "response_a", "response_b")
IMPLICIT = ("chosen", "rejected")
OPENAI = ("input", "preferred_output", "non_preferred_output")
PROMPTS = ("prompt_ids", "prompt_input_ids", "prompt", *CONVERSATIONS)
RESPONSES = ("response", "completion", "chosen")
TOKENIZED_RESPONSES = ("response_ids", "completion_ids", "chosen_ids")
LABEL = ("p", "weight", "pair_id")
OTHER_FORMS = ("label", "score", "rank", "responses", "scores", "ranks")
"""Columns of preferences that are not pairs: of a single response, and of a list of responses."""
TREE = ("message_id", "parent_id", "message_tree_id", "role", "text")
"""Columns of a message of a tree, as in OpenAssistant."""
MESSAGE_COLUMNS = (*TREE, "rank", "deleted", "review_result")
"""All columns of such a message that are read."""
WITH_PROMPT = ("system", "history", "tools", "documents", "chat_template_kwargs")
"""Columns that belong to the prompt of a conversation."""
MEDIA = ("image", "images", "video", "videos", "audio", "audios")

# Columns that a built-in world writes next to its pairs for its own measurements.
OF_WORLDS = ("gold_chosen", "gold_rejected", "flipped")

KNOWN_COLUMNS = frozenset(
    {*TOKENIZED[0], *TOKENIZED[1], *EXPLICIT, *CONVERSATIONS, *LABELLED, *OPENAI, *RESPONSES, *TOKENIZED_RESPONSES}
    | {*LABEL, "p_b", *WITH_PROMPT, *OTHER_FORMS, *MESSAGE_COLUMNS}
)

# Words in the name of a column that holds a prompt, and words that mark a column that only describes one.
PROMPT_WORDS = {
    "prompt", "prompts", "question", "questions", "instruction", "instructions", "input", "inputs", "query", "context",
    "user", "human", "problem", "request", "messages", "conversation", "conversations", "dialog", "dialogue", "post",
}  # fmt: skip
DESCRIBES = {
    "id", "ids", "source", "src", "len", "length", "tokens", "count", "score", "type", "lang", "language", "category",
    "hash", "model",
}  # fmt: skip
# Other words for our columns, in the names that a hint proposes.
_ALSO = {
    "prompt": PROMPT_WORDS,
    "chosen": {"preferred", "better", "best", "good", "winner", "winning", "accepted", "positive"},
    "rejected": {"dispreferred", "worse", "worst", "bad", "loser", "losing", "refused", "negative"},
}


def pair_columns(row: Row, place: Place) -> tuple[str, ...]:
    """The columns of a pair's prompt, if it has a separate one, and of its two responses.

    Raises:
        DataError: The row is not a pair.
    """
    for names in TOKENIZED:
        if all(name in row for name in names):
            return names
    conversation = next((name for name in CONVERSATIONS if name in row and _asks(row[name], place)), None)
    explicit = (EXPLICIT, *([(conversation, *IMPLICIT)] if conversation else []))
    for names in (*explicit, LABELLED, IMPLICIT):
        if all(name in row for name in names):
            return names
    if names := _answered_and_rejected(row, place):
        return names
    raise place.error(
        "a pair needs chosen and rejected (with or without prompt), or messages that end with the chosen answer and "
        "rejected, or prompt, response_a, response_b and p_b, or prompt_ids, chosen_ids and rejected_ids, or input, "
        "preferred_output and non_preferred_output; "
        f"{listed(row)}{_hint(row, place)}"
    )


def is_pair(row: Row, place: Place) -> bool:
    """Whether a row has the columns of a pair."""
    known = any(all(name in row for name in names) for names in (*TOKENIZED, IMPLICIT, LABELLED))
    return known or _answered_and_rejected(row, place) is not None


def means_pair(row: Row) -> bool:
    """Whether the name of any column suggests a pair."""
    return any(name in LABELLED[1:] or "rejected" in _words(name) for name in row)


def answered(row: Row, place: Place) -> str | None:
    """The column with a conversation that ends with an answer, if there is one."""
    return next((name for name in CONVERSATIONS if row.get(name) and not _asks(row[name], place)), None)


def is_demonstration(row: Row, place: Place) -> bool:
    """Whether a row has a prompt and one response, or a conversation that ends with an answer."""
    asking = any(name in row for name in ("prompt", *CONVERSATIONS)) and any(name in row for name in RESPONSES)
    tokenized = "prompt_ids" in row and any(name in row for name in TOKENIZED_RESPONSES)
    return asking or tokenized or answered(row, place) is not None


def is_prompt(row: Row) -> bool:
    """Whether a row has a prompt."""
    return any(name in row for name in PROMPTS)


def _answered_and_rejected(row: Row, place: Place) -> tuple[str, ...] | None:
    """The columns of a conversation that ends with the chosen answer, and of the rejected answer."""
    if "rejected" not in row or "chosen" in row:
        return None
    conversation = answered(row, place)
    return None if conversation is None else (conversation, "rejected")


def demonstration_columns(row: Row, place: Place) -> tuple[str, ...]:
    """The columns of a demonstration: one conversation, or a prompt and its response.

    Raises:
        DataError: The row is not a demonstration.
    """
    for prompt, responses in (
        ("prompt_ids", TOKENIZED_RESPONSES),
        ("prompt", RESPONSES),
        *((name, RESPONSES) for name in CONVERSATIONS if name in row and _asks(row[name], place)),
    ):
        response = next((name for name in responses if name in row), None)
        if prompt in row and response:
            return prompt, response
    for name in CONVERSATIONS:
        if name in row:
            return (name,)
    raise place.error(
        "a demonstration needs messages (or conversations), or prompt with response, completion or chosen; "
        f"{listed(row)}{_hint(row, place)}"
    )


def prompt_column(row: Row, place: Place) -> str:
    """The column of a prompt.

    Raises:
        DataError: The row has no prompt.
    """
    found = next((name for name in PROMPTS if name in row), None)
    if found is not None:
        return found
    raise place.error(f"a prompt needs a column prompt, messages or prompt_ids; {listed(row)}{_hint(row, place)}")


def unread(row: Row, names: Iterable[str], label: Iterable[str] = LABEL) -> tuple[str, ...]:
    """The columns of a row that are not used when prompt and responses are read from ``names``."""
    used = {*names, *label, *OF_WORLDS}
    if not any(name.endswith("_ids") for name in names):
        used |= {*WITH_PROMPT}
    return tuple(name for name in row if name not in used)


def no_prompt(row: Row, place: Place) -> DataError | None:
    """The error for answers that would have to begin with the prompt although other columns hold one."""
    others = [name for name, value in row.items() if name not in {*IMPLICIT, *LABEL}]
    holding = [name for name in others if row[name] and _may_be_prompt(name)]
    if not holding:
        return None
    return place.error(
        f"no prompt column; the file also has {listed_names(others)}: name it with "
        f"{place.reading.key}.columns: {{prompt: {_quoted(holding[0])}}}"
    )


def listed(row: Row) -> str:
    """All columns of a row, for messages."""
    return f"the columns are {listed_names(row)}"


def listed_names(names: Iterable[str]) -> str:
    """Column names for a message, quoted where the name alone would be unclear."""
    return ", ".join(map(_quoted, names))


def _quoted(name: str) -> str:
    """A name, quoted if it would be unclear without quotes."""
    return (
        name if name and name == name.strip() and name.isprintable() and not set(name) & set(",:{}'\"") else repr(name)
    )


def _words(name: str) -> list[str]:
    return name.strip().lower().replace("-", "_").replace(" ", "_").split("_")


def _may_be_prompt(name: str) -> bool:
    words = _words(name)
    return not DESCRIBES & {words[-1]} and bool(PROMPT_WORDS & set(words))


def _asks(value: Any, place: Place) -> bool:
    """Whether a conversation ends with a message to answer."""
    last = value[-1] if isinstance(value, list | tuple) and value else value
    if not isinstance(last, Mapping):
        return False
    role = last.get("role") or last.get("from")
    return not isinstance(role, str) or our_role(role, place.reading.roles) != "assistant"


def _hint(row: Row, place: Place) -> str:
    """A hint at what columns with other names or formats may mean."""
    asking = next((name for name in CONVERSATIONS if name in row and means_pair(row) and "chosen" not in row), None)
    if asking is not None:
        return f" ({asking} must end with the chosen answer if no column holds it)"
    found = {}
    for ours, words in _ALSO.items():
        near, far = ([name for name in row if each & {*_words(name)}] for each in ({ours}, words))
        alike = [name for name in near or far if not DESCRIBES & {_words(name)[-1]}]
        if ours not in row and len(alike) == 1:
            found[ours] = alike[0]
    if found.keys() == {"prompt"}:
        found.clear()  # what is missing is the two answers
    if not found:
        return f" (rename them with {place.reading.key}.columns: {{our name: name in the file}})"
    given = ", ".join(f"{ours}: {_quoted(name)}" for ours, name in found.items())
    return f" (rename them with {place.reading.key}.columns: {{{given}}})"

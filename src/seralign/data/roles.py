"""Roles of messages: those that chat templates know, and their aliases."""

from __future__ import annotations

from collections.abc import Mapping

from seralign.config.data import ROLES as KNOWN

ALIASES = {
    "human": "user",
    "prompter": "user",
    "usr": "user",
    "customer": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "asst": "assistant",
    "observation": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "function_response": "tool",
    "function-response": "tool",
    "function_call": "assistant",
    "function-call": "assistant",
    "tool_call": "assistant",
}
"""Aliases in datasets, in lower case."""

CALLS = ("function_call", "function-call", "tool_call")
"""Roles whose text is the JSON of the assistant's calls, in ShareGPT's and ms-swift's formats."""

_HINTS = {
    "tool": ("tool", "function", "observation", "result", "execut", "environment", "retriev"),
    "assistant": ("assist", "bot", "gpt", "model", "agent", "answer", "llm", "reply"),
    "system": ("system", "instruction"),
}


def our_role(role: str, roles: Mapping[str, str]) -> str | None:
    """Our name for a role: from ``roles`` first, then known roles and aliases in any case. None if unknown."""
    if role in roles:
        return roles[role]
    plain = role.strip().lower()
    return plain if plain in KNOWN else ALIASES.get(plain)


def is_calls(role: str, roles: Mapping[str, str]) -> bool:
    """Whether a message with this role holds calls as JSON text. A role that ``roles`` maps does not."""
    return role not in roles and role.strip().lower() in CALLS


def likely_role(role: str) -> str:
    """The most likely meaning of an unknown role, for a message."""
    words = role.lower()
    return next((ours for ours, parts in _HINTS.items() if any(part in words for part in parts)), "user")

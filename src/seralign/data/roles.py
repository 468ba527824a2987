"""The roles of a conversation's messages: those that chat templates know, and other names for them."""

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
}
"""Other names, in lower case, as data sets have them."""


def our_role(role: str, roles: Mapping[str, str]) -> str | None:
    """Our name of a role: ``roles`` first, then the known ones and their aliases in any case; None for another."""
    if role in roles:
        return roles[role]
    plain = role.strip().lower()
    return plain if plain in KNOWN else ALIASES.get(plain)

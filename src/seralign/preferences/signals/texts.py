"""The texts that checks and judges read."""

from __future__ import annotations

from seralign.preferences.groups import Group, text_of


def prompt_text(group: Group) -> str:
    """The text of the prompt.

    Raises:
        DataError: It is neither text nor messages.
    """
    try:
        return text_of(group.prompt)
    except ValueError as error:
        raise group.error(f"the prompt has no text that a signal can read: {error}") from None


def response_texts(group: Group) -> list[str]:
    """The text of each response [K].

    Raises:
        DataError: One is neither text nor messages.
    """
    try:
        return [text_of(response) for response in group.responses]
    except ValueError as error:
        raise group.error(f"a response has no text that a signal can read: {error}") from None

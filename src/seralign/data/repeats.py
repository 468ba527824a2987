"""Text responses that begin with a copy of the prompt, as in datasets of whole texts."""

from __future__ import annotations

from collections.abc import Sequence

from seralign.data.content import Content, is_chat
from seralign.data.markers import ends_with_mark
from seralign.data.place import Place

PROMPT_REPEATED = "prompt removed from responses that repeat it"
REPEATED_ONCE = "only one response begins with the prompt"

# An answer may begin with a shorter text, such as a greeting, by chance.
_WORDS = 4


def without_prompt(prompt: Content, responses: Sequence[Content], place: Place) -> list[Content]:
    """The responses without the prompt, if every one of them begins with it. Both cases are noted.

    In a conversation the prompt is its last message. Responses that are conversations are unchanged.
    """
    text = prompt[-1]["content"] if is_chat(prompt) else prompt
    texts = [response for response in responses if isinstance(response, str)]
    if not isinstance(text, str) or not text.strip() or len(texts) < len(responses):
        return list(responses)
    rests = [_rest(text, response) for response in texts]
    found = [rest for rest in rests if rest is not None]
    if not found or not _surely_repeated(text, found):
        return list(responses)
    if len(found) < len(rests):
        place.notes.append(REPEATED_ONCE)
        return list(responses)
    place.notes.append(PROMPT_REPEATED)
    as_message = is_chat(prompt) or place.reading.as_chat
    return [rest.lstrip() if as_message else rest for rest in found]


def _rest(prompt: str, response: str) -> str | None:
    """The rest of a response after the prompt; None if it does not begin with the prompt."""
    if response.startswith(prompt):
        return response[len(prompt) :]
    begun, bare = response.lstrip(), prompt.strip()
    return begun[len(bare) :] if begun.startswith(bare) else None


def _surely_repeated(prompt: str, rests: Sequence[str]) -> bool:
    """Whether the prompt is repeated, as opposed to answers that begin with the same word."""
    bare = prompt.rstrip()
    if ends_with_mark(bare):
        return True
    asks = bare.endswith(("?", ":")) or len(bare.split()) >= _WORDS
    return all(not rest or not bare[-1].isalnum() or not rest[0].isalnum() for rest in rests) and (
        asks or all(rest.startswith(("\n", "\r")) for rest in rests)
    )

"""The prompt and the responses of a row, from the columns that hold them. Nothing is tokenized here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from seralign.data import columns
from seralign.data.borders import NO_SHARED_PROMPT, NOT_THE_ASSISTANT, answer, split
from seralign.data.columns import IMPLICIT, Row
from seralign.data.content import NOTHING, Content, Inputs, is_chat
from seralign.data.inputs import Around, read_around, with_before, without_before
from seralign.data.markers import hh_turns, holds_hh_turns, in_turns, is_hh, other_turn
from seralign.data.message_keys import NOT_LEARNED, is_not_learned
from seralign.data.messages import read_ids, read_text, refuse_stored_chat, stored_role
from seralign.data.place import Place
from seralign.data.repeats import without_prompt
from seralign.records import content_id

OTHER_TURN = "turn marker inside a response"
UNSPLIT = "turns of Human: and Assistant: inside one message (data.format: hh reads them as turns)"
IN_TURNS = "prompt with turns made one user message by data.as_chat"
HH_LEFT = "turns that data.format: hh cannot tell apart (it reads Human: and Assistant: after an empty line)"
STORED = "response that is a conversation stored as a string"


def prompt_and_responses(
    row: Row, names: tuple[str, ...], place: Place
) -> tuple[Content, tuple[Content, ...], Inputs] | str:
    """Prompt, responses and the template's other inputs; or the reason to drop the row.

    The columns are prompt and responses (any number), two responses that begin with the prompt, or one conversation.
    """
    surrounds = around(row, names[0], place)
    contents: list[Content] = [content_of(row, name, place, names) for name in names]
    if any(holds_turns(row[name], content, place) for name, content in zip(names, contents, strict=True)):
        return HH_LEFT
    if names[0] in columns.CONVERSATIONS and names[1:] in ((), ("rejected",)):
        messages, *others = contents
        if isinstance(messages, str):
            refuse_stored_chat(messages, names[0], place)
        if not is_chat(messages) or len(messages) < 2:
            raise place.error(f"{names[0]} must be a prompt and an assistant message that answers it")
        if messages[-1]["role"] != "assistant":
            return NOT_THE_ASSISTANT
        # The rejected answer may be given as the whole conversation that ends with it.
        whole = any(is_chat(other) and len(other) > 1 for other in others)
        contents = [messages[:-1], messages if whole else messages[-1:], *(answer(other) for other in others)]
    prompt, responses = (None, contents) if names == IMPLICIT else (contents[0], contents[1:])
    if prompt is None:
        _check_implicit(row, responses, place)
    else:
        prompt = explicit_prompt(prompt, names[0], place)
        responses = [_response(prompt, response, place) for response in responses]
        responses = without_before(prompt, responses, surrounds)
        responses = without_prompt(prompt, responses, place)
    parts = _split(prompt, responses, place)
    if isinstance(parts, str):
        return parts
    prompt, answers = parts
    if isinstance(prompt, str) and place.reading.as_chat:
        prompt = as_chat(prompt, place)
        answers = [({"role": "assistant", "content": each},) for each in answers]
    if any(is_not_learned(message) for each in answers if is_chat(each) for message in each):
        return NOT_LEARNED
    for each in answers:
        _note_response(each, place)
    return with_before(prompt, surrounds, place), tuple(answers), surrounds.inputs


def _split(prompt: Content | None, responses: Sequence[Content], place: Place) -> tuple[Content, list[Content]] | str:
    """The prompt and each response without it, or the reason to drop the row."""
    first, *others = responses
    found = [split(prompt, first, other, place) for other in others or [first]]
    for each in found:
        if isinstance(each, str):
            return each
    prompts, firsts, seconds = zip(*found, strict=True)
    if any(each != prompts[0] for each in prompts):
        return NO_SHARED_PROMPT
    return prompts[0], [firsts[0], *(seconds if others else ())]


def unread_columns(row: Row, names: Iterable[str], label: tuple[str, ...], place: Place) -> tuple[str, ...]:
    """The columns of a row, and the keys of its messages, that are not used."""
    return (*columns.unread(row, names, label), *dict.fromkeys(place.unread))


def around(row: Row, name: str, place: Place) -> Around:
    """The context of a prompt; empty if the prompt is token ids."""
    return Around((), NOTHING, ()) if name.endswith("_ids") else read_around(row, place)


def content_of(row: Row, name: str, place: Place, names: tuple[str, ...] = ()) -> Content:
    if name.endswith("_ids"):
        return read_ids(row[name], name, place)
    content = read_text(row[name], name, place)
    if isinstance(content, str) and place.reading.format == "hh":
        # An answer on its own has no system message before its turns; a whole text may have one.
        prompt = None if names in ((), IMPLICIT) or name == names[0] else row[names[0]]
        whole = prompt is None or (isinstance(prompt, str) and content.strip().startswith(prompt.strip()))
        return hh_turns(content, whole) or content
    return content


def holds_turns(value: Any, content: Content, place: Place) -> bool:
    """Whether a text read in HH-RLHF's format still contains turns that were not separated."""
    if place.reading.format != "hh" or not isinstance(value, str):
        return False
    texts = [message["content"] for message in content] if is_chat(content) else [str(content)]
    return any(holds_hh_turns(text) for text in texts)


def explicit_prompt(content: Content, name: str, place: Place) -> Content:
    """An explicit prompt; with ``format: hh`` a text without turns is a user message."""
    if isinstance(content, str):
        refuse_stored_chat(content, name, place)
        if place.reading.format == "hh" and content.strip():
            return ({"role": "user", "content": content.strip()},)
    return content


def as_chat(prompt: Content, place: Place) -> Content:
    """With ``as_chat`` a plain prompt as a user message; else the prompt unchanged."""
    if not (isinstance(prompt, str) and place.reading.as_chat):
        return prompt
    if is_hh(prompt):
        place.notes.append(UNSPLIT)
    elif in_turns(prompt):
        place.notes.append(IN_TURNS)
    return ({"role": "user", "content": prompt},)


def _response(prompt: Content, response: Content, place: Place) -> Content:
    # A single object can be the answer. A list that does not begin with the assistant is a whole conversation.
    if not isinstance(response, str):
        return response
    is_list = not response.lstrip().startswith("{")
    if isinstance(prompt, str) and is_list and stored_role(response, place.reading.roles) not in (None, "assistant"):
        refuse_stored_chat(response, "a response", place)
    return response.strip() if place.reading.format == "hh" else response


def _check_implicit(row: Row, responses: Sequence[Content], place: Place) -> None:
    """Reject an implicit prompt if another column holds a prompt."""
    for response in responses:
        if isinstance(response, str):
            refuse_stored_chat(response, "a response", place)
    whole = all(is_chat(response) and len(response) > 1 for response in responses)
    error = None if whole else columns.no_prompt(row, place)
    if error is not None:
        raise error


def _note_response(answer: Content, place: Place) -> None:
    text = answer[0]["content"] if is_chat(answer) else answer
    if isinstance(text, str):
        if other_turn(text):
            place.notes.append(OTHER_TURN)
        if stored_role(text, place.reading.roles):
            place.notes.append(STORED)


def identity(contents: list[Content], inputs: Inputs) -> str:
    """The digest of a row's content, including other inputs of the template if there are any."""
    more: list[Any] = [inputs.tools, inputs.documents, inputs.settings] if inputs else []
    return content_id([*contents, *more])

"""Row formats. Each row becomes one prompt with its responses; nothing is tokenized here.

Pairs are recognised by their columns, in this order:

- already tokenized: ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` (or ``prompt_input_ids`` and so on);
- explicit prompt: ``prompt`` (or ``messages``, ``conversations``), ``chosen``, ``rejected``, each plain text or
  messages;
- two answers: ``prompt``, ``response_a``, ``response_b`` and ``p_b``, the probability that b is better;
- one conversation: ``messages`` (or ``conversations``) that end with the chosen answer, and ``rejected`` (or
  ms-swift's ``rejected_response``, ``rejected_messages``);
- implicit prompt: only ``chosen`` and ``rejected``, which begin with the same turns;
- OpenAI's preference format: ``input`` with ``messages`` and ``tools``, ``preferred_output``,
  ``non_preferred_output``.

``p`` (probability that ``chosen`` is better), ``weight`` and ``pair_id`` are optional; null counts as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from seralign.data import columns
from seralign.data.borders import NOT_THE_ASSISTANT, answer, check_prompt, split
from seralign.data.columns import IMPLICIT, LABELLED, Row
from seralign.data.content import NOTHING, Content, Inputs, is_chat
from seralign.data.flat import flat
from seralign.data.inputs import Around, read_around, with_before, without_before
from seralign.data.kinds import refuse_other_formats
from seralign.data.label import first_is_better, read_pair_id, read_weight
from seralign.data.markers import hh_turns, holds_hh_turns, in_turns, is_hh, other_turn
from seralign.data.message_keys import NOT_LEARNED, is_not_learned
from seralign.data.messages import read_ids, read_text, refuse_stored_chat, stored_role
from seralign.data.place import Place, Reading
from seralign.data.raw import Drop, RawExample, RawPrompt
from seralign.data.repeats import without_prompt
from seralign.records import Demonstration, Pair, content_id

SWAPPED = "swapped"
TIE = "tie"
OTHER_TURN = "turn marker inside a response"
UNSPLIT = "turns of Human: and Assistant: inside one message (data.format: hh reads them as turns)"
IN_TURNS = "prompt with turns made one user message by data.as_chat"
HH_LEFT = "turns that data.format: hh cannot tell apart (it reads Human: and Assistant: after an empty line)"
STORED = "response that is a conversation stored as a string"

_LABELS = ("p", "p_b")
PLAIN_READING = Reading()


def read_pair(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawExample | Drop:
    """Read one row as a pair with the better response first and p in (0.5, 1].

    A row with p < 0.5 is swapped and gets 1 - p. A row with p = 0.5 is a tie and is dropped. So are rows with an
    implicit prompt whose responses share no prompt, or whose answers have several turns.

    Raises:
        DataError: The columns are of no known format, or a value is null, of the wrong type or out of range.
    """
    place = Place(where, reading)
    row = flat(row, place)
    refuse_other_formats(row, place)
    names = columns.pair_columns(row, place)
    label = ("p_b" if names == LABELLED else "p", "weight", "pair_id")
    p = first_is_better(row, names == LABELLED, place)
    weight = read_weight(row, place)
    pair_id = read_pair_id(row, place)
    parts = _parts(row, names, place)
    unread = _unread(row, names, label, place)
    if isinstance(parts, str):
        return Drop(parts, unread)
    if p == 0.5:
        return Drop(TIE, unread)
    prompt, (first, second), inputs = parts
    chosen, rejected = (first, second) if p > 0.5 else (second, first)
    return RawExample(
        example_id=pair_id or _identity([prompt, chosen, rejected], inputs),
        prompt=prompt,
        responses=(chosen, rejected),
        preference=Pair(max(p, 1.0 - p)),
        weight=weight,
        named=pair_id is not None,
        where=where,
        inputs=inputs,
        unread=unread,
        notes=(*dict.fromkeys(place.notes), *([SWAPPED] if p < 0.5 else [])),
    )


def read_demonstration(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawExample | Drop:
    """Read one row as a demonstration.

    It is a pair's better response; ``prompt`` with ``response``, ``completion`` or ``chosen`` (or their ids); or
    ``messages`` or ``conversations`` that end with the response.

    Raises:
        DataError: As ``read_pair``.
    """
    place = Place(where, reading)
    row = flat(row, place)
    if columns.is_pair(row, place):
        pair = read_pair(row, where, reading)
        if isinstance(pair, Drop):
            return pair
        notes = tuple(note for note in pair.notes if note != SWAPPED)
        return replace(pair, responses=pair.responses[:1], preference=Demonstration(), notes=notes)
    refuse_other_formats(row, place)
    names = columns.demonstration_columns(row, place)
    pair_id = read_pair_id(row, place)
    weight = read_weight(row, place)
    parts = _parts(row, names, place)
    unread = _unread(row, names, ("weight", "pair_id"), place)
    if isinstance(parts, str):
        return Drop(parts, unread)
    prompt, responses, inputs = parts
    return RawExample(
        example_id=pair_id or _identity([prompt, *responses], inputs),
        prompt=prompt,
        responses=responses,
        preference=Demonstration(),
        weight=weight,
        named=pair_id is not None,
        where=where,
        inputs=inputs,
        unread=unread,
        notes=tuple(dict.fromkeys(place.notes)),
    )


def read_prompt(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawPrompt | Drop:
    """Read one row as a prompt: a pair's prompt, ``prompt``, ``prompt_ids``, or ``messages`` up to the last answer.

    Raises:
        DataError: As ``read_pair``.
    """
    place = Place(where, reading)
    row = flat(row, place)
    if columns.is_pair(row, place):
        # Only the prompt is used, so a tie is as good as any other row.
        pair = read_pair({**row, "p": 1.0, "p_b": 1.0}, where, reading)
        if isinstance(pair, Drop):
            return pair
        return RawPrompt(
            pair.prompt, where, pair.inputs, tuple(n for n in pair.unread if n in row or n not in _LABELS), pair.notes
        )
    name = columns.prompt_column(row, place)
    around = _around(row, name, place)
    content = _content(row, name, place)
    if _holds_turns(row[name], content, place):
        return Drop(HH_LEFT, _unread(row, [name], (), place))
    prompt = _prompt(content, name, place)
    if name in columns.CONVERSATIONS:
        while is_chat(prompt) and prompt[-1]["role"] == "assistant":
            prompt = prompt[:-1]
    check_prompt(prompt, place)
    prompt = with_before(_as_chat(prompt, place), around, place)
    return RawPrompt(prompt, where, around.inputs, _unread(row, [name], (), place), tuple(dict.fromkeys(place.notes)))


def _parts(row: Row, names: tuple[str, ...], place: Place) -> tuple[Content, tuple[Content, ...], Inputs] | str:
    """Prompt, responses and the template's other inputs; or the reason to drop the row.

    The columns are prompt and responses, two responses that begin with the prompt, or one conversation.
    """
    around = _around(row, names[0], place)
    contents: list[Content] = [_content(row, name, place, names) for name in names]
    if any(_holds_turns(row[name], content, place) for name, content in zip(names, contents, strict=True)):
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
        prompt = _prompt(prompt, names[0], place)
        responses = [_response(prompt, response, place) for response in responses]
        responses = without_before(prompt, responses, around)
        responses = without_prompt(prompt, responses, place)
    parts = split(prompt, responses[0], responses[-1], place)
    if isinstance(parts, str):
        return parts
    prompt, *both = parts
    answers = both[: len(responses)]
    if isinstance(prompt, str) and place.reading.as_chat:
        prompt = _as_chat(prompt, place)
        answers = [({"role": "assistant", "content": each},) for each in answers]
    if any(is_not_learned(message) for each in answers if is_chat(each) for message in each):
        return NOT_LEARNED
    for each in answers:
        _note_response(each, place)
    return with_before(prompt, around, place), tuple(answers), around.inputs


def _unread(row: Row, names: Iterable[str], label: tuple[str, ...], place: Place) -> tuple[str, ...]:
    """The columns of a row, and the keys of its messages, that are not used."""
    return (*columns.unread(row, names, label), *dict.fromkeys(place.unread))


def _around(row: Row, name: str, place: Place) -> Around:
    """The context of a prompt; empty if the prompt is token ids."""
    return Around((), NOTHING, ()) if name.endswith("_ids") else read_around(row, place)


def _content(row: Row, name: str, place: Place, names: tuple[str, ...] = ()) -> Content:
    if name.endswith("_ids"):
        return read_ids(row[name], name, place)
    content = read_text(row[name], name, place)
    if isinstance(content, str) and place.reading.format == "hh":
        # An answer on its own has no system message before its turns; a whole text may have one.
        prompt = None if names in ((), IMPLICIT) or name == names[0] else row[names[0]]
        whole = prompt is None or (isinstance(prompt, str) and content.strip().startswith(prompt.strip()))
        return hh_turns(content, whole) or content
    return content


def _holds_turns(value: Any, content: Content, place: Place) -> bool:
    """Whether a text read in HH-RLHF's format still contains turns that were not separated."""
    if place.reading.format != "hh" or not isinstance(value, str):
        return False
    texts = [message["content"] for message in content] if is_chat(content) else [str(content)]
    return any(holds_hh_turns(text) for text in texts)


def _prompt(content: Content, name: str, place: Place) -> Content:
    """An explicit prompt; with ``format: hh`` a text without turns is a user message."""
    if isinstance(content, str):
        refuse_stored_chat(content, name, place)
        if place.reading.format == "hh" and content.strip():
            return ({"role": "user", "content": content.strip()},)
    return content


def _as_chat(prompt: Content, place: Place) -> Content:
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


def _identity(contents: list[Content], inputs: Inputs) -> str:
    """The digest of a row's content, including other inputs of the template if there are any."""
    more: list[Any] = [inputs.tools, inputs.documents, inputs.settings] if inputs else []
    return content_id([*contents, *more])

"""Makes an example from the parts of a row."""

from __future__ import annotations

from collections.abc import Sequence

from seralign.data.content import Content, Inputs
from seralign.data.parts import identity
from seralign.data.place import Place
from seralign.data.raw import RawExample
from seralign.records import Preference


def make_example(
    parts: tuple[Content, tuple[Content, ...], Inputs],
    preference: Preference,
    pair_id: str | None,
    weight: float,
    unread: tuple[str, ...],
    place: Place,
    *,
    distinct_by: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> RawExample:
    """An example.

    Args:
        parts: Prompt, responses and inputs.
        preference: The preference over the responses.
        pair_id: The id that the row gave. Without one, it is the digest of the parts and ``distinct_by``.
        weight: The weight of the example.
        unread: Columns that were not read.
        place: The row, with the notes on it.
        distinct_by: What else tells the example from others with the same parts.
        notes: More notes.
    """
    prompt, responses, inputs = parts
    return RawExample(
        example_id=pair_id or identity([prompt, *responses, *distinct_by], inputs),
        prompt=prompt,
        responses=responses,
        preference=preference,
        weight=weight,
        named=pair_id is not None,
        where=place.where,
        inputs=inputs,
        unread=unread,
        notes=(*dict.fromkeys(place.notes), *notes),
    )

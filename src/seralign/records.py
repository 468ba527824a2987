"""What flows through a run: prompts, pairs, scored pairs, and the columns that they are stored with.

A pair never travels by position: ``pair_id`` names it in every table of a run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Literal

OFFLINE = "offline"

Form = Literal["pair", "demonstration"]
"""What a preference over the responses of an example can be: a pair with p, or none."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it.

    ``text`` is the rendered text (chat template applied), ``ids`` its token ids [P].
    """

    prompt_id: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a chosen and a rejected response, tokenized.

    ``prompt_ids`` [P], ``chosen_ids`` [W], ``rejected_ids`` [L]; the end-of-sequence token is part of a
    response that ended by itself. ``p`` in [0.5, 1] is the probability that ``chosen`` is the better one.
    ``origin`` is ``offline`` or ``generated:ROUND``. A demonstration (for ``sft``) is a pair whose
    ``rejected_ids`` are empty.
    """

    pair_id: str
    prompt_id: str
    origin: str
    prompt: str
    chosen: str
    rejected: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    p: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sampled response. ``finished``: it ended with an end-of-sequence token within the length limit."""

    prompt_id: str
    index: int
    text: str
    ids: tuple[int, ...]
    finished: bool


def oriented(pair: Pair, p: float) -> Pair:
    """The pair with another label: the sides are swapped where ``p`` prefers the rejected response.

    Args:
        pair: A pair.
        p: Probability in [0, 1] that ``pair.chosen`` is the better one.

    Returns:
        The pair with ``p`` in [0.5, 1].
    """
    if p >= 0.5:
        return replace(pair, p=p)
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_ids=pair.rejected_ids,
        rejected_ids=pair.chosen_ids,
        p=1.0 - p,
    )


def content_id(content: Any) -> str:
    """A stable 16-digit identity of any JSON value: the same content has the same identity in every run."""
    payload = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(payload.encode()).hexdigest()[:16]

"""The records of a run: prompts, examples (a prompt with responses and a preference over them), and candidates.

Examples are identified by ``example_id`` in every table of a run, never by position.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

OFFLINE = "offline"

HOLES = "ranking with a hole in its ranks"

Form = Literal["pair", "ranking", "scores", "label", "demonstration"]
"""The forms of preference over the responses of an example."""
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference between two responses: the first is better with probability ``p`` in [0, 1]."""

    p: float = 1.0

    form: ClassVar[Form] = "pair"

    @property
    def stored(self) -> tuple[float, ...]:
        """[2]: the probability of each response to be the better one."""
        return (self.p, 1.0 - self.p)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The rank of each response [K]. 1 is the best; equal ranks are a tie."""

    ranks: tuple[int, ...]

    form: ClassVar[Form] = "ranking"

    @property
    def stored(self) -> tuple[float, ...]:
        """[K]: the ranks."""
        return tuple(map(float, self.ranks))


@dataclass(frozen=True, slots=True)
class Scores:
    """The score of each response [K]; higher is better. Scores can only be compared within one example."""

    scores: tuple[float, ...]

    form: ClassVar[Form] = "scores"

    @property
    def stored(self) -> tuple[float, ...]:
        """[K]: the scores."""
        return self.scores


@dataclass(frozen=True, slots=True)
class Label:
    """Whether a single response is desirable."""

    desirable: bool

    form: ClassVar[Form] = "label"

    @property
    def stored(self) -> tuple[float, ...]:
        """[1]: 1 if it is desirable, else 0."""
        return (float(self.desirable),)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """No preference: a response to imitate."""

    form: ClassVar[Form] = "demonstration"

    @property
    def stored(self) -> tuple[float, ...]:
        """Empty."""
        return ()


Preference = Pair | Ranking | Scores | Label | Demonstration
"""What an example says of its responses; ``stored`` is its form in tables."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it.

    Args:
        prompt_id: Identity of the token ids.
        text: The rendered text, with the chat template applied.
        ids: Its token ids [P].
        messages: JSON text of the messages that the text was rendered from; None for plain text and token ids. They
            are complete even if the prompt was cut to ``data.max_prompt_length``.
        template_inputs: JSON text of the template's other inputs, an object with any of ``tools``, ``documents`` and
            ``chat_template_kwargs``; None without such inputs.
    """

    prompt_id: str
    text: str
    ids: tuple[int, ...]
    messages: str | None = None
    template_inputs: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A response: its text without the end token, and its token ids [L].

    The ids of a finished response include its end-of-sequence token.
    """

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with K >= 1 responses and a preference over them.

    Args:
        example_id: Its identity.
        prompt: The prompt.
        responses: The responses [K]; the first one of a pair is the chosen one.
        preference: The preference over the responses.
        weight: Weight in the loss.
        origin: ``offline`` or ``generated:ROUND``.
        carried: Values of the columns in ``data.keep_columns``, as text.

    Raises:
        ValueError: There is no response, or the preference is not one over K responses.
    """

    example_id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    preference: Preference
    weight: float = 1.0
    origin: str = OFFLINE
    carried: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = len(self.preference.stored) or 1
        if len(self.responses) != wanted:
            raise ValueError(
                f"{self.example_id}: a {self.preference.form} of {wanted} responses has {len(self.responses)}"
            )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sampled response. ``finished``: it ended with an end-of-sequence token within the length limit."""

    prompt_id: str
    index: int
    text: str
    ids: tuple[int, ...]
    finished: bool


def dense_ranks(ranks: Sequence[int]) -> tuple[int, ...] | None:
    """Ranks without gaps, from 1. None if a rank is missing.

    They begin at 1 or 0. After a tie, as many ranks may be skipped as it has responses more than one: 1, 1, 3 and
    1, 1, 2 are both 1, 1, 2.
    """
    levels = sorted(set(ranks))
    if not levels or levels[0] not in (0, 1):
        return None
    skipping = [levels[0] + sum(each < level for each in ranks) for level in levels]
    if levels not in (skipping, list(range(levels[0], levels[0] + len(levels)))):
        return None
    places = {level: place for place, level in enumerate(levels, start=1)}
    return tuple(places[rank] for rank in ranks)


def preference_of(form: str, stored: tuple[float, ...]) -> Preference:
    """The preference from its form and numbers in a table.

    Raises:
        ValueError: Unknown form, or a wrong number of values for a pair or label.
    """
    match form:
        case "pair":
            p, _ = stored
            return Pair(p)
        case "ranking":
            return Ranking(tuple(map(int, stored)))
        case "scores":
            return Scores(stored)
        case "label":
            (desirable,) = stored
            return Label(desirable == 1.0)
        case "demonstration":
            return Demonstration()
    raise ValueError(f"unknown form of preference {form!r}; known are {', '.join(FORMS)}")


def oriented(pair: Example, p: float) -> Example:
    """The pair with a new label. If ``p`` prefers the second response, the responses are swapped.

    Args:
        pair: An example with two responses.
        p: Probability in [0, 1] that the first response is better.

    Returns:
        The pair with its probability in [0.5, 1].
    """
    if p >= 0.5:
        return replace(pair, preference=Pair(p))
    first, second = pair.responses
    return replace(pair, responses=(second, first), preference=Pair(1.0 - p))


def content_id(content: Any) -> str:
    """A stable 16-digit id of a JSON value; equal content has the same id in every run."""
    payload = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(payload.encode()).hexdigest()[:16]

"""Rows of several responses in a list, with ranks or scores, as in Nectar and UltraFeedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seralign.data import columns
from seralign.data.columns import Row
from seralign.data.kinds import ranked_column, unranked
from seralign.data.label import read_pair_id, read_weight
from seralign.data.parts import prompt_and_responses, unread_columns
from seralign.data.place import Place
from seralign.data.raw import Drop, RawExample
from seralign.data.single import judged_example, number, rank
from seralign.data.values import shown
from seralign.records import HOLES, Ranking, Scores, dense_ranks

NOTHING_TO_COMPARE = "fewer than two responses"
ALL_TIED = "ranking in which all responses are tied"
CONTRADICTION = "ranking with equal responses of different ranks"

_TEXTS = ("answer", "response", "completion", "output", "generation", "text", "content", "value")
_RANKS = ("ranks", "rank")
_SCORES = ("scores", "score", "overall_score", "ratings", "rating", "rewards", "reward")


def read_ranked(row: Row, place: Place) -> RawExample | Drop:
    """Read a row with a prompt and a list of responses.

    The responses are objects that have a rank or a score, or texts or messages next to a list of ranks or scores. They
    are sorted, the best first. Ranks begin at 1 or 0, the best lowest. Equal ranks are a tie, after which the next rank
    may be skipped (1, 1, 3) or not (1, 1, 2).

    Raises:
        DataError: There are more or fewer ranks than responses, a rank or score is no number, or there is no prompt.
    """
    name = ranked_column(row)
    assert name is not None
    prompt = columns.prompt_column(row, place)
    pair_id, weight = read_pair_id(row, place), read_weight(row, place)
    column, is_rank, values = _values(row, name, place)
    used = (prompt, name, column)
    unread = unread_columns(row, used, ("weight", "pair_id"), place)
    if len(values) < 2:
        return Drop(NOTHING_TO_COMPARE, unread)
    given = {f"{name}[{index}]": _text(each, f"{name}[{index}]", place) for index, each in enumerate(row[name])}
    if is_rank:
        ranks = dense_ranks([rank(value, what, place) for what, value in values])
        if ranks is None:
            return Drop(HOLES, unread)
        if len(set(ranks)) == 1:
            return Drop(ALL_TIED, unread)
        worth: Sequence[float] = [-float(each) for each in ranks]
    else:
        ranks, worth = None, [number(value, what, place) for what, value in values]
    parts = prompt_and_responses({**row, **given}, (prompt, *given), place)
    if isinstance(parts, str):
        return Drop(parts, unread)
    content, responses, inputs = parts
    order = sorted(range(len(worth)), key=lambda index: -worth[index])
    if any(responses[one] == responses[two] and worth[one] != worth[two] for one in order for two in order):
        return Drop(CONTRADICTION, unread)
    responses = tuple(responses[index] for index in order)
    preference = (
        Scores(tuple(worth[index] for index in order))
        if ranks is None
        else Ranking(tuple(ranks[index] for index in order))
    )
    return judged_example((content, responses, inputs), preference, pair_id, weight, unread, place)


def _values(row: Row, name: str, place: Place) -> tuple[str, bool, list[tuple[str, Any]]]:
    """The column of the ranks or scores, whether they are ranks, and each with its name."""
    answers = row[name]
    for keys, is_rank in ((_RANKS, True), (_SCORES, False)):
        for key in keys:
            if all(isinstance(each, Mapping) and key in each for each in answers):
                return name, is_rank, [(f"{name}[{at}].{key}", each[key]) for at, each in enumerate(answers)]
        for key in keys:
            beside = row.get(key)
            if not isinstance(beside, Sequence) or isinstance(beside, str):
                continue
            if len(beside) != len(answers):
                raise place.error(f"{key} has {len(beside)} entries, but {name} has {len(answers)} responses")
            return key, is_rank, [(f"{key}[{at}]", value) for at, value in enumerate(beside)]
    raise unranked(row, name, place)


def _text(response: Any, what: str, place: Place) -> Any:
    """The content of an entry of the list: a text, a message, or what an object holds."""
    if not isinstance(response, Mapping):
        return response
    if "role" in response or "from" in response:
        return {key: value for key, value in response.items() if key not in (*_RANKS, *_SCORES)}
    held = [key for key in _TEXTS if key in response]
    if len(held) != 1:
        raise place.error(f"{what} must have one of {', '.join(_TEXTS)}, got {shown(dict(response))}")
    return response[held[0]]

"""The kind of a file's rows, the form of preference of a row, and known kinds that are not supported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seralign.data import columns
from seralign.data.columns import Row
from seralign.data.flat import flat
from seralign.data.label import is_number
from seralign.data.place import Place, Reading
from seralign.errors import DataError

Kind = Literal["pairs", "demonstrations", "prompts"]
FormOfRow = Literal["pair", "ranked", "label", "score", "rank"]

THUMBS = {
    "true": True, "good": True, "desirable": True, "chosen": True, "yes": True, "1": True,
    "false": False, "bad": False, "undesirable": False, "rejected": False, "no": False, "0": False,
}  # fmt: skip
"""Labels as words."""
LABELS = ("label", "kto_tag", "desirable")
"""Columns with a thumbs up or down; ``label`` may mean something else."""
NUMBERED = re.compile(r"(response|answer|completion|output)_?([0-9]|[a-z])", re.IGNORECASE)
"""An answer column with a number or a letter in its name."""
RANKED = ("answers", "responses", "completions", "candidates", "outputs", "generations")
# What ranked answers, or a column next to them, have.
_RANK = {"rank", "ranks", "ranking", "rankings", "score", "scores", "rating", "ratings", "reward", "rewards",
         "overall_score"}  # fmt: skip
# Score columns of a single answer: any of the above, or HelpSteer's attributes.
_SCORES = {*_RANK, "helpfulness", "correctness", "coherence", "complexity", "verbosity"} - {"rank", "ranks"}


def kind_of(row: Row, place: Place) -> Kind:
    """Whether a row has a preference, or is a demonstration or a prompt, judged by its columns.

    Raises:
        DataError: It is none of them, or in an unsupported format.
    """
    row = flat(row, place)
    refuse_numbered(row, place)
    if columns.is_pair(row, place) or columns.means_pair(row) or _has_preference(row, place):
        return "pairs"
    if columns.is_demonstration(row, place):
        return "demonstrations"
    if columns.is_prompt(row):
        return "prompts"
    columns.pair_columns(row, place)
    return "pairs"


@dataclass(slots=True)
class OneKind:
    """Rejects a source in which only some rows are pairs. ``first`` is whether the first row is one, and its place."""

    first: tuple[bool, str] | None = None

    def check(self, row: Row, where: str, how: Reading) -> None:
        """Compare a row with the first one.

        Raises:
            DataError: One of the two is a pair, and the other is not.
        """
        place = Place(where, how)
        pair = columns.is_pair(flat(row, place), place)
        if self.first is None:
            self.first = (pair, where)
        if pair != self.first[0]:
            kinds = ("a pair", "not a pair") if pair else ("not a pair", "a pair")
            raise place.error(
                f"this row is {kinds[0]}, and {self.first[1]} is {kinds[1]}; a source cannot mix pairs with other rows "
                "yet, so put the pairs into a separate file"
            )


def form_of(row: Row, place: Place) -> FormOfRow:
    """The form of preference of a row of ``data.pairs``, judged by its columns: a pair unless they say otherwise.

    ``ranked`` are responses in a list with ranks or scores; the others are of a single response.
    """
    if columns.is_pair(row, place):
        return "pair"
    single = columns.is_demonstration(row, place)
    if single and any(name in row for name in LABELS):
        return "label"
    if ranked_column(row) is not None:
        return "ranked"
    if single and ("score" in row or score_columns(row)):
        return "score"
    return "rank" if single and "rank" in row else "pair"


def refuse_other_formats(row: Row, place: Place) -> None:
    """Reject a row of demonstrations that is a preference of another form than a pair.

    Raises:
        DataError: It is an answer with a thumbs up or down or with scores, a list of ranked answers, or has several
            answers.
    """
    if columns.is_pair(row, place):
        return
    thumb = next((name for name in LABELS if name in row and is_thumb(name, row[name])), None)
    if thumb is not None and columns.is_demonstration(row, place):
        raise place.error(
            f"{thumb} is true or false, so the row is an unpaired preference as in KTO, not a demonstration; give the "
            f"rows as data.pairs. If {thumb} means something else, rename the column; {columns.listed(row)}"
        )
    scores = score_columns(row)
    if scores and columns.is_demonstration(row, place):
        raise place.error(
            f"a single answer with scores ({columns.listed_names(scores)}) as in HelpSteer, not a demonstration; give "
            "the rows as data.pairs, or remove the scores to train on every answer. "
            f"If {scores[0]} means something else, rename the column; {columns.listed(row)}"
        )
    ranked = ranked_column(row)
    if ranked is not None:
        raise place.error(
            f"{ranked} is a list of ranked answers as in Nectar, not a demonstration; give the rows as data.pairs; "
            f"{columns.listed(row)}"
        )
    refuse_numbered(row, place)


def refuse_unranked(row: Row, place: Place) -> None:
    """Reject a row whose responses nothing compares.

    Raises:
        DataError: It has a list of responses without ranks or scores, or one response without a label, score or rank.
    """
    if form_of(row, place) != "pair" or columns.is_pair(row, place):
        return
    name = next((name for name in RANKED if _is_list(row.get(name))), None)
    if name is not None:
        raise unranked(row, name, place)
    if columns.is_demonstration(row, place) and not columns.means_pair(row):
        raise place.error(
            "one response, and no label, score or rank to compare it by; add one of them or a second response, or give "
            f"the rows as data.demonstrations; {columns.listed(row)}"
        )


def unranked(row: Row, name: str, place: Place) -> DataError:
    """The error for a list of responses without ranks or scores."""
    return place.error(
        f"{name} are several responses without a rank or score for each; write them as ranks or scores, one for each "
        f"response (the best rank is 1), or rename the column: {place.reading.key}.columns: {{ranks: NAME}}. seralign "
        f"label makes preferences of votes, checks or a judge (docs/labels.md); {columns.listed(row)}"
    )


def refuse_numbered(row: Row, place: Place) -> None:
    """Reject a row with several answers in columns of their own.

    Raises:
        DataError: It has.
    """
    numbered = [name for name in row if NUMBERED.fullmatch(name)]
    if len(numbered) > 1 and not columns.is_pair(row, place) and not columns.is_demonstration(row, place):
        raise place.error(
            f"{columns.listed_names(numbered)} are several answers to one prompt as in HelpSteer, a format that is not "
            f"supported. seralign label makes pairs of such rows (docs/labels.md); or write a list of responses and a "
            f"list of their ranks; "
            f"{columns.listed(row)}"
        )


def score_columns(row: Row) -> list[str]:
    """The columns that hold scores of a single answer."""
    return [name for name, value in row.items() if name in _SCORES and _is_score(value)]


def is_thumb(name: str, value: Any) -> bool:
    """Whether a label is true or false; text tables spell it as a word, others may use 1 or 0."""
    if name != "label":
        return value is not None and value != ""
    if isinstance(value, str):
        return value.strip().lower() in THUMBS
    return isinstance(value, bool | int | float) and value in (0, 1)


def _is_score(value: Any) -> bool:
    """Whether a value is a number, also as text, or contains only numbers."""
    if isinstance(value, str):
        return is_number(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_score, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_preference(row: Row, place: Place) -> bool:
    """Whether a row has a label, scores or ranks, as opposed to a column of the name of one."""
    thumb = any(name in row and is_thumb(name, row[name]) for name in LABELS)
    single = thumb or bool(score_columns(row)) or _is_score(row.get("rank"))
    return ranked_column(row) is not None or (single and columns.is_demonstration(row, place))


def ranked_column(row: Row) -> str | None:
    """The column of ranked answers, if there is one."""
    beside = any(name in _RANK and _is_list(value) for name, value in row.items())
    for name in RANKED:
        answers = row.get(name)
        if not isinstance(answers, Sequence) or isinstance(answers, str):
            continue
        if beside or (answers and all(isinstance(each, Mapping) and _RANK & each.keys() for each in answers)):
            return name
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)

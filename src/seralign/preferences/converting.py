"""Tables of examples: single scores and ranks joined by prompt, and preferences converted to other forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from datasets import Dataset

from seralign.config import ConvertConfig
from seralign.data.ranked import CONTRADICTION
from seralign.data.table import read_table, to_example, write_examples
from seralign.data.table_columns import forms, response_counts
from seralign.errors import DataError
from seralign.preferences.convert import (
    Which,
    labels_to_pairs,
    pair_to_labels,
    pair_to_ranking,
    ranking_to_pairs,
    scores_to_labels,
    scores_to_pairs,
    scores_to_ranking,
)
from seralign.records import HOLES, Example, Label, Pair, Ranking, Scores, dense_ranks
from seralign.runs.data_figures import SourceFigures

JOINED = "single responses joined by prompt"
ALONE = "rank of the only response of its prompt"
TIED = "all responses of the prompt tied"
NOTHING = "nothing to compare"
IDENTICAL = "pair of identical responses"


def convert_table(
    path: Path, table: Dataset, convert: ConvertConfig, carried: Sequence[str], figures: SourceFigures
) -> tuple[Dataset, SourceFigures]:
    """Join single scores and ranks by prompt, and convert the preferences of a table as the configuration says.

    Args:
        path: The file of the table, which is written again if something changes.
        table: Of examples.
        convert: The conversions.
        carried: Names of the carried columns.
        figures: Of the source of the table.

    Returns:
        The table, and the figures with what was done (``converted``).

    Raises:
        DataError: No example is left.
    """
    if not _changes(table, convert):
        return table, figures
    counts = Counter[str]()
    before = path.with_name(f"{path.name}.before")
    path.rename(before)
    rows = read_table(before)
    size = write_examples(path, _converted(rows, convert, counts), carried)
    before.unlink()
    if not size:
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
        raise DataError(f"{figures.source}: no example is left after data.convert: {reasons}")
    return read_table(path), replace(figures, converted=dict(counts.most_common()))


def _changes(table: Dataset, convert: ConvertConfig) -> bool:
    found = forms(table)
    named = any(getattr(convert, form, None) is not None for form in found)
    return named or (bool({"scores", "ranking"} & set(found)) and bool(_single(table).any()))


def _single(table: Dataset) -> Any:
    """Which examples are the score or the rank of a single response [N]."""
    of_several = [form in ("scores", "ranking") for form in table["form"][:]]
    return (response_counts(table) == 1) & of_several


def _converted(table: Dataset, convert: ConvertConfig, counts: Counter[str]) -> Iterator[Example]:
    for group in _grouped(table, convert):
        examples = [to_example(cast(dict[str, Any], table[row])) for row in group]
        if isinstance(examples[0].preference, Label) and convert.label == "pairs":
            yield from _counted(examples[0], list(labels_to_pairs(examples)), "pairs", counts)
            continue
        example = examples[0] if len(examples) == 1 else _joined(examples)
        if len(examples) > 1:
            counts[JOINED] += 1
        if isinstance(example.preference, Ranking):
            ranks = dense_ranks(example.preference.ranks)
            if ranks is None or len(set(ranks)) == 1:
                counts[ALONE if len(example.responses) == 1 else HOLES if ranks is None else TIED] += 1
                continue
            example = replace(example, preference=Ranking(ranks))
            # As pairs, only the pairs of the equal responses are left out.
            if convert.ranking is None and _contradicts(example):
                counts[CONTRADICTION] += 1
                continue
        yield from _of(example, convert, counts)


def _grouped(table: Dataset, convert: ConvertConfig) -> list[list[int]]:
    """The rows of each example to be, in the order of their first row."""
    single, groups = _single(table), dict[tuple[str, str], list[int]]()
    for row, (form, prompt) in enumerate(zip(table["form"][:], table["prompt_id"][:], strict=True)):
        together = single[row] or (form == "label" and convert.label == "pairs")
        groups.setdefault((form, prompt if together else f"row {row}"), []).append(row)
    return list(groups.values())


def _joined(examples: Sequence[Example]) -> Example:
    """Examples of one response each as one, with the id and the carried columns of the first; the best come first."""
    first = examples[0].preference
    assert isinstance(first, Scores | Ranking)
    sign = 1.0 if isinstance(first, Ranking) else -1.0
    ordered = sorted(examples, key=lambda example: sign * example.preference.stored[0])
    values = [example.preference.stored[0] for example in ordered]
    preference = Ranking(tuple(map(int, values))) if isinstance(first, Ranking) else Scores(tuple(values))
    return replace(
        examples[0],
        responses=tuple(example.responses[0] for example in ordered),
        preference=preference,
        weight=sum(example.weight for example in examples) / len(examples),
    )


def _of(example: Example, convert: ConvertConfig, counts: Counter[str]) -> Iterator[Example]:
    """An example in the form that it is converted to."""
    how = getattr(convert, example.preference.form, None)
    if how is None:
        yield example
        return
    found: list[Example]
    match example.preference:
        case Ranking():
            found = ranking_to_pairs(example, _which(how))
        case Scores(scores) if how == "ranking":
            found = [scores_to_ranking(example)] if len(set(scores)) > 1 else []
        case Scores() if how == "labels":
            assert convert.threshold is not None
            found = scores_to_labels(example, convert.threshold)
        case Scores():
            scale = None if convert.temperature is None else 1.0 / convert.temperature
            found = scores_to_pairs(example, scale, convert.min_margin, _which(how))
        case _:
            found = [pair_to_ranking(example)] if how == "ranking" else pair_to_labels(example)
    yield from _counted(example, found, how, counts)


def _counted(example: Example, found: list[Example], how: str, counts: Counter[str]) -> Iterator[Example]:
    form = example.preference.form
    kept = [each for each in found if not _identical(each)]
    counts[IDENTICAL] += len(found) - len(kept)
    if how == "ranking":
        found, kept = kept, [each for each in kept if not _contradicts(each)]
        counts[CONTRADICTION] += len(found) - len(kept)
    counts[f"{form} with {NOTHING}"] += not found
    counts[f"made of {form} by data.convert.{form}: {how}"] += len(kept)
    for key in [key for key, count in counts.items() if not count]:
        del counts[key]
    yield from kept


def _identical(example: Example) -> bool:
    if not isinstance(example.preference, Pair):
        return False
    first, second = example.responses
    return first.ids == second.ids


def _contradicts(example: Example) -> bool:
    """Whether a ranking gives equal responses different ranks."""
    ranks = dict[tuple[int, ...], float]()
    return any(
        ranks.setdefault(tuple(response.ids), rank) != rank
        for response, rank in zip(example.responses, example.preference.stored, strict=True)
    )


def _which(how: str) -> Which:
    return {"all_pairs": "all", "adjacent_pairs": "adjacent", "best_worst_pair": "best_worst"}[how]  # pyright: ignore

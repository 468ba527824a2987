"""How often a judge, a reward model or an implicit reward ranks labelled pairs right, by category as in RewardBench."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from seralign.config import DataConfig, SourceConfig
from seralign.data.carried import carried_values
from seralign.data.content import Content, is_chat, is_ids
from seralign.data.flat import flat
from seralign.data.formats import read_pair
from seralign.data.kinds import form_of
from seralign.data.place import Place, reading
from seralign.data.raw import Drop
from seralign.data.sources import describe, load_rows
from seralign.errors import DataError
from seralign.evaluation.judges import Comparison, Judge, make_judge
from seralign.evaluation.metrics import ranked_right
from seralign.evaluation.scorer import load_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.evaluation.verdict_figures import verdict_figures
from seralign.evaluation.win_rates import decide
from seralign.intervals import Interval, share_interval
from seralign.pipeline.evaluate.prompts import make_question, shown_text
from seralign.records import content_id
from seralign.runs.results import Results

KEY = "PAIRS"


@dataclass(frozen=True, slots=True)
class AccuracyFigures:
    """How often pairs are ranked as they are labelled.

    Args:
        pairs: Pairs that were judged.
        dropped: Rows that are no pair, by reason, such as ties.
        unread: Pairs without a verdict; they are in no other figure.
        accuracy: Share of the pairs whose chosen response is preferred, ties half; pairs of a prompt are one group.
        by: The same by the values of the column; empty without one.
        mean: Mean of the values of ``by``, each category with the same weight; None without a column.
        position_bias: How much the response that is shown first gains over one half; None unless the judge asks both
            orders.
        self_agreement: Share of the pairs on which both orders name the same winner; None like the bias.
    """

    pairs: int
    dropped: dict[str, int]
    unread: int
    accuracy: Interval | None
    by: dict[str, Interval]
    mean: float | None
    position_bias: Interval | None
    self_agreement: Interval | None


@dataclass(frozen=True, slots=True)
class _Pair:
    """A pair as a judge is asked; ``turned``: the chosen response is the second one."""

    comparison: Comparison
    turned: bool
    category: str


def pair_accuracy(
    source: SourceConfig,
    judge: str,
    options: dict[str, Any],
    *,
    scorer: str | None = None,
    by: str | None = None,
    verdicts: Path | None = None,
) -> AccuracyFigures:
    """Ask a judge about labelled pairs.

    Which response is shown first depends on a digest of the pair, so that a judge that prefers the first place gains
    nothing.

    Args:
        source: The pairs, as in ``data.pairs``.
        judge: As in ``evaluation.judge``: ``reward_model``, ``implicit``, ``server`` and so on.
        options: Its settings.
        scorer: ``module:function`` for the judge ``scorer``.
        by: A column of the source to report accuracy by.
        verdicts: File that keeps the verdicts, so that none is asked twice; by default they are not kept.

    Raises:
        ConfigError: The judge or one of its settings is wrong, or it gives no verdict at all.
        DataError: The source cannot be read, has no pairs or lacks the column.
    """
    with TemporaryDirectory() as folder, closing(Results(verdicts or Path(folder) / "verdicts.sqlite")) as results:
        stored = None if scorer is None else StoredScorer(load_scorer(scorer, "--scorer"), results)
        asked: Judge = make_judge(judge, options, stored, "--judge", results)
        pairs, dropped = _read(source, by)
        comparisons = list(dict.fromkeys(pair.comparison for pair in pairs))
        found = dict(zip(comparisons, decide(asked, comparisons, results, "the pairs", "--judge"), strict=True))
    given = [found[pair.comparison] for pair in pairs]
    better = [one.first_better for one in given]
    read = [at for at, value in enumerate(better) if value is not None]
    margins = np.array([better[at] for at in read], np.float64) - 0.5
    margins = np.where([pairs[at].turned for at in read], -margins, margins)
    right, prompts = ranked_right(margins), [pairs[at].comparison.prompt.prompt_id for at in read]
    rates: dict[str, Interval] = {}
    for category in sorted({pairs[at].category for at in read}) if by is not None else ():
        here = [place for place, at in enumerate(read) if pairs[at].category == category]
        rate = share_interval(right[here], [prompts[place] for place in here])
        assert rate is not None
        rates[category] = rate
    mean = float(np.mean([rate.mean for rate in rates.values()])) if rates else None
    places = verdict_figures(
        better, [one.orders for one in given], [pair.comparison.prompt.prompt_id for pair in pairs]
    )
    return AccuracyFigures(
        len(pairs),
        dropped,
        len(pairs) - len(read),
        share_interval(right, prompts),
        rates,
        mean,
        places.position_bias,
        places.self_agreement,
    )


def _read(source: SourceConfig, by: str | None) -> tuple[list[_Pair], dict[str, int]]:
    rows, how = load_rows(source, KEY), reading(DataConfig(), KEY)
    if by is not None and by not in rows.column_names:
        raise DataError(f"{describe(source)} has no column {by!r} (--by); it has {', '.join(rows.column_names)}")
    pairs, dropped = list[_Pair](), Counter(rows.left_out)
    for row, where in rows.located():
        place = Place(where, how)
        if (form := form_of(flat(row, place), place)) != "pair":
            raise place.error(
                f"the row is no pair ({form}), and accuracy is of pairs; seralign label makes pairs of responses with "
                "ranks, scores or labels (docs/labels.md)"
            )
        raw = read_pair(row, where, how)
        if isinstance(raw, Drop):
            dropped[raw.reason] += 1
            continue
        prompt = make_question(raw.prompt, raw.inputs, where).prompt
        chosen, rejected = (_text(response, where) for response in raw.responses)
        turned = int(content_id([prompt.prompt_id, *sorted([chosen, rejected])])[-1], 16) % 2 == (chosen < rejected)
        first, second = (rejected, chosen) if turned else (chosen, rejected)
        category = "none" if by is None else carried_values(row, {by: by})[by] or "none"
        pairs.append(_Pair(Comparison(prompt, first, second), turned, category))
    if not pairs:
        raise DataError(
            f"{describe(source)} has no pairs: {', '.join(f'{n} {reason}' for reason, n in dropped.items())}"
        )
    return pairs, dict(dropped)


def _text(response: Content, where: str) -> str:
    if is_ids(response):
        raise DataError(f"{where}: a response is token ids; a judge needs text or messages")
    if is_chat(response) and len(response) == 1:
        return str(response[0].get("content") or "")
    return shown_text(response)

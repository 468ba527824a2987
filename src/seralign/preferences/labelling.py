"""``seralign label``: rows with candidates and signals become a data set of preferences.

Three passes. The signals are evaluated on chunks of prompts, which are stored; a labelling that was killed evaluates
only what is missing. What needs all rows is estimated. Then pairs, rankings or scores are made and written.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from seralign.config.paths import expanded
from seralign.data.sources import describe, fingerprint
from seralign.errors import ConfigError, DataError, StoreError
from seralign.preferences.combining import Combiner, make_combiner
from seralign.preferences.config import LabelConfig, Titled, plain
from seralign.preferences.figures import LabelFigures, SignalFigures
from seralign.preferences.goals import goal_rows
from seralign.preferences.grading import Grader, make_grader
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Graded, Opinion, Scored
from seralign.preferences.ordering import ranking_of, scores_of
from seralign.preferences.pairing import pairs_of
from seralign.preferences.rows import Groups, read_groups
from seralign.preferences.signals import Asker
from seralign.preferences.signals.base import Check
from seralign.preferences.stored import Judged, Store, judged
from seralign.preferences.workers import Chunk, Pool
from seralign.preferences.writing import pair_row, ranking_row, score_row, write_rows
from seralign.progress import bar, say
from seralign.runs.files import disk_errors, partial_folder, write_json
from seralign.runs.results import Results

# Prompts that are evaluated and stored together: more where a prompt takes no time.
FAST, SLOW = 1024, 16
_SLOW = ("unit_tests", "command", "scorer", "judge")


def label(config: LabelConfig) -> LabelFigures:
    """Label rows, or resume a labelling that was killed: give the same configuration again.

    Writes ``config.out``, and beside it ``NAME.label.json`` with the figures and the configuration. Until it is done,
    its work is in the folder ``NAME.partial``.

    Raises:
        SeralignError: A row, a setting or a check is wrong; finished chunks are kept.
    """
    out = Path(expanded(config.out))
    if out.exists():
        raise StoreError(f"{out} already exists; delete it, or give another name (out)")
    folder = out.with_name(out.name + ".partial")
    with disk_errors(out.parent), partial_folder(folder, "seralign label"):
        figures = _label(config, out, folder)
        shutil.rmtree(folder)
    return figures


def _label(config: LabelConfig, out: Path, folder: Path) -> LabelFigures:
    values = plain(config)
    # A function or file may change before a labelling is resumed; what it said before is not what it says now.
    sources = [getattr(one.signal, "identity", None) for one in config.signals]
    identity = {
        "data": [values["data"], fingerprint(config.data.source, "data")],
        "signals": [values["signals"], sources],
        "keep_columns": values["keep_columns"],
        "limits": [values["limits"]["memory_mb"], values["limits"]["network"]],
    }
    store = Store(folder)
    store.begin(identity, config.out)
    groups = read_groups(config.data, folder)
    slow = any(values["signals"][place]["name"] in _SLOW for place in range(len(config.signals)))
    size = SLOW if slow else FAST
    numbers = range(-(-groups.count // size))
    network = _evaluate(config, groups, store, size)
    combined = _Combined(config, store, numbers)
    tally = _Tally([one.title for one in config.signals])
    written = folder / out.name
    write_rows(written, lambda: tally.rows(store.read(numbers), combined, config))
    if not tally.written:
        counts = ", ".join(f"{reason} {count}" for reason, count in tally.dropped.most_common())
        one = config.write.removesuffix("s")
        raise DataError(f"{describe(config.data.source)}: no {one} can be made of {groups.count} prompts: {counts}")
    figures = tally.figures(config, groups, combined, network)
    write_json(out.with_name(f"{out.stem}.label.json"), figures.to_dict() | {"configuration": values})
    # Last: where the file is, its figures are too.
    written.replace(out)
    return figures


def _evaluate(config: LabelConfig, groups: Groups, store: Store, size: int) -> bool:
    """Evaluate the signals on the chunks that are not stored; returns whether checks could use the network."""
    askers = {place: one for place, one in enumerate(config.signals) if isinstance(one.signal, Asker)}
    with (
        bar("label", groups.count, "prompt") as line,
        closing(Results(store.folder / "results.sqlite")) as results,
        Pool(config.signals, config.limits) as pool,
    ):
        # What was stored before this command is no part of its rate.
        starts = range(0, groups.count, size)
        done = sum(min(size, groups.count - start) for number, start in enumerate(starts) if store.has(number))
        line.at(done)

        def missing() -> Iterator[Chunk]:
            for number, chunk in enumerate(_chunks(groups, size)):
                if not store.has(number):
                    yield Chunk(number, chunk)

        warned = False
        for chunk, answers in pool.evaluate(missing()):
            if pool.network:
                store.keep_network()
            asked = {place: _ask(one, chunk.groups, results) for place, one in askers.items()}
            store.put(chunk.number, map(_judged(config, asked), range(len(answers)), chunk.groups, answers))
            done += len(chunk.groups)
            line.at(done)
            if pool.network and not config.limits.network and not warned and _runs_code(config):
                say("warning: this system does not let seralign cut off the network: checks can use it")
                warned = True
    return store.network


def _ask(one: Titled, groups: Sequence[Group], results: Results) -> list[Opinion]:
    assert isinstance(one.signal, Asker)
    try:
        return one.signal.ask(groups, results)
    except ConfigError as error:
        raise ConfigError(f"{one.key}.{error}") from None


def _judged(config: LabelConfig, asked: dict[int, list[Opinion]]) -> Any:
    def one(number: int, group: Group, answer: Sequence[Opinion | None]) -> Judged:
        opinions = [asked[place][number] if said is None else said for place, said in enumerate(answer)]
        return judged(group, opinions, config.keep_columns)

    return one


def _runs_code(config: LabelConfig) -> bool:
    """Whether a check runs code of the user's or of the responses."""
    return any(getattr(one.signal, "runs_code", False) for one in config.signals if isinstance(one.signal, Check))


def _chunks(groups: Iterable[Group], size: int) -> Iterator[tuple[Group, ...]]:
    rest = iter(groups)
    while chunk := tuple(islice(rest, size)):
        yield chunk


@dataclass
class _Combined:
    """The preferences over the responses to a prompt, from the opinions of all signals."""

    graders: list[Grader]
    combiner: Combiner | None

    def __init__(self, config: LabelConfig, store: Store, numbers: Sequence[int]) -> None:
        self.graders = [
            make_grader(one.signal, (judged.opinions[place] for judged in store.read(numbers)))
            for place, one in enumerate(config.signals)
        ]
        self.combiner = None
        if config.combine is not None:
            titles = [one.title for one in config.signals]
            self.combiner = make_combiner(config.combine, titles, map(self._each, store.read(numbers)))

    def grade(self, one: Judged) -> Graded:
        graded = self._each(one)
        return graded[0] if self.combiner is None else self.combiner.combine(len(one.responses), graded)

    def _each(self, one: Judged) -> list[Graded]:
        size = len(one.responses)
        return [grader.grade(size, opinion) for grader, opinion in zip(self.graders, one.opinions, strict=True)]


@dataclass
class _Tally:
    """Counts that grow while rows are made. ``rows`` begins them anew."""

    titles: list[str]
    responses: int = 0
    written: int = 0
    soft: int = 0
    tied: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    values: list[int] = field(default_factory=list)
    missing: list[Counter[str]] = field(default_factory=list)

    def rows(self, groups: Iterable[Judged], combined: _Combined, config: LabelConfig) -> Iterator[dict[str, Any]]:
        self.responses = self.written = self.soft = self.tied = 0
        self.dropped, self.values = Counter(), [0] * len(self.titles)
        self.missing = [Counter() for _ in self.titles]
        for one in groups:
            self.responses += len(one.responses)
            for place, opinion in enumerate(one.opinions):
                scored = isinstance(opinion, Scored)
                known = len(opinion.scores) - opinion.scores.count(None) if scored else len(opinion.ballots)
                self.values[place] += known
                self.missing[place].update(opinion.reasons)
            made = self._rows(one, combined, config)
            self.written += len(made)
            yield from made

    def _rows(self, one: Judged, combined: _Combined, config: LabelConfig) -> list[dict[str, Any]]:
        """The rows of a prompt."""
        graded = combined.grade(one)
        match config.write:
            case "pairs":
                return self._pairs(one, graded, config)
            case "rankings":
                ranked = ranking_of(one.responses, graded, self.dropped)
                if ranked is None:
                    return []
                self.tied += len(set(ranked.ranks)) < len(ranked.ranks)
                return [ranking_row(one, ranked, self.titles)]
            case "scores":
                scores = scores_of(graded, config.signals[0].signal.temperature, self.dropped)
                return [score_row(one, index, score, self.titles) for index, score in scores.items()]

    def _pairs(self, one: Judged, graded: Graded, config: LabelConfig) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        goal = config.pairs.goal
        for pair in pairs_of(one.responses, graded, config.pairs, self.dropped):
            row = pair_row(one, pair, self.titles)
            made = [row] if goal is None else goal_rows(row, one, pair, goal)
            self.soft += len(made) * (pair.p < 1.0)
            found += made
        return found

    def figures(self, config: LabelConfig, groups: Groups, combined: _Combined, network: bool) -> LabelFigures:
        signals = tuple(
            SignalFigures(title, values, dict(missing.most_common()), grader.annotators)
            for title, values, missing, grader in zip(
                self.titles, self.values, self.missing, combined.graders, strict=True
            )
        )
        combiner = combined.combiner
        return LabelFigures(
            out=config.out,
            write=config.write,
            rows=groups.rows,
            prompts=groups.count,
            responses=self.responses,
            written=self.written,
            soft=self.soft / self.written if config.write == "pairs" else None,
            tied=self.tied / self.written if config.write == "rankings" else None,
            dropped=dict((self.dropped + Counter(groups.left_out)).most_common()),
            signals=signals,
            network=network,
            reliabilities=() if combiner is None else combiner.reliabilities,
            calibration=() if combiner is None else combiner.calibration,
        )

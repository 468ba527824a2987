"""``seralign lab judge``: a judge in a world, as figures, tables and a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seralign.config import WorldConfig
from seralign.errors import ConfigError
from seralign.evaluation.judge_calibration import JudgeCalibration, RateCheck, judge_calibration, rate_checks
from seralign.evaluation.judges import Judge, make_judge
from seralign.evaluation.scorer import make_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.evaluation.win_rates import decide
from seralign.intervals import Interval
from seralign.laboratory.grammar import Grammar
from seralign.laboratory.judging import Contest, JudgeBias, SimulatedJudge, draw_contest, pooled
from seralign.laboratory.world import GRAMMARS
from seralign.runs.files import write_atomic
from seralign.runs.results import Results
from seralign.studies.svg import Mean, intervals_svg
from seralign.tables import ABSENT, Table, interval, markdown, number, share

SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class JudgeStudy:
    """What a judge does in a world: its calibration on all comparisons, and the win rates of each policy."""

    judge: str
    world: str
    prompts: int
    calibration: JudgeCalibration
    rates: tuple[RateCheck, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """The judge of a study.

    Args:
        name: ``simulated``, or a judge as in ``evaluation.judge``.
        options: Settings of a judge that is not simulated.
        bias: Of the simulated judge.
    """

    name: str
    options: dict[str, Any]
    bias: JudgeBias


def judge_study(asked: Asked, world: str, prompts: int, seed: int, verdicts: Path | None = None) -> JudgeStudy:
    """Ask a judge about the answers of four policies of a world, and compare its verdicts with the truth.

    Args:
        asked: The judge.
        world: ``clauses``, ``elaborations`` or ``sums``.
        prompts: Number of prompts; there are four comparisons on each.
        seed: Seed of world, answers and simulated verdicts.
        verdicts: File that keeps the verdicts, so that none is asked twice; by default they are not kept.

    Raises:
        ConfigError: There is no such world or judge, or the judge gives no verdict; names the option.
    """
    if world not in GRAMMARS:
        raise ConfigError(f"--world must be one of {', '.join(GRAMMARS)}, got {world!r}")
    grammar = GRAMMARS[world](WorldConfig(name=world, seed=seed))  # pyright: ignore[reportArgumentType]
    contest = draw_contest(grammar, prompts, seed)
    with TemporaryDirectory() as folder:
        results = Results(verdicts or Path(folder) / "verdicts.sqlite")
        try:
            judge = _judge(asked, grammar, contest, seed, results)
            found = {
                name: decide(judge, comparisons, results, f"{name} against the baseline", "--judge")
                for name, comparisons in contest.comparisons.items()
            }
        finally:
            results.close()
    judged = contest.judged(found)
    rates = tuple(rate_checks(judged, seed=seed))
    return JudgeStudy(asked.name, world, prompts, judge_calibration(pooled(judged), seed=seed), rates)


def judge_tables(study: JudgeStudy) -> list[Table]:
    """Accuracy by gap, biases, and win rates."""
    found = study.calibration
    gaps = [
        (number(part.smallest, 2) + (f" to {number(part.largest, 2)}" if part.largest > part.smallest else ""), part)
        for part in found.by_gap
    ]
    accuracy = [(name, f"{part.accuracy.n:,}", share(part.accuracy)) for name, part in gaps]
    if found.accuracy is not None:
        accuracy.append(("all", f"{found.accuracy.n:,}", share(found.accuracy)))
    biases = [
        ("position bias: what the first place gains", _points(found.position_bias)),
        ("self-agreement of the two orders", share(found.self_agreement)),
        ("effect of one unit of gold, log-odds", interval(found.gold_effect, 2)),
        ("effect of a much longer answer, log-odds", interval(found.length_effect, 2)),
        ("effect of the first place, log-odds", interval(found.position_effect, 2)),
        ("comparisons without a verdict", f"{found.unread:,} of {found.comparisons:,}"),
    ]
    read: list[tuple[str, Callable[[RateCheck], Interval | None]]] = [
        ("truth", lambda rate: rate.gold),
        ("shown first", lambda rate: rate.shown_first),
        ("shown second", lambda rate: rate.shown_second),
        ("both orders", lambda rate: rate.both),
        ("and length-controlled", lambda rate: rate.controlled),
    ]
    rates = tuple((rate.policy, *(share(of(rate)) for _, of in read)) for rate in study.rates)
    return [
        Table("Accuracy by the difference in gold", ("gold difference", "comparisons", "accuracy"), tuple(accuracy)),
        Table("Biases", ("figure", "value"), tuple(biases)),
        Table("Win rates against the baseline", ("policy", *(name for name, _ in read)), rates),
    ]


def judge_picture(study: JudgeStudy) -> str:
    """The win rates with their intervals, as SVG."""
    means = [
        Mean(f"{rate.policy}, {name}", found.mean, found.low, found.high)
        for rate in study.rates
        for name, found in (
            ("truth", rate.gold),
            ("shown first", rate.shown_first),
            ("both orders", rate.both),
            ("length-contr.", rate.controlled),
        )
        if found is not None
    ]
    return intervals_svg(f"Win rates by the judge {study.judge}, world {study.world}", means, 0.5)


def write_judge_page(study: JudgeStudy, page: Path) -> None:
    """Write the tables as Markdown, and the picture beside them with the same name."""
    picture = page.with_suffix(".svg")
    write_atomic(picture, lambda part: part.write_text(judge_picture(study), encoding="utf-8"))
    tables = [f"**{table.caption}**\n\n{markdown(table)}\n" for table in judge_tables(study)]
    head = f"# The judge {study.judge} in the world {study.world}\n\n{study.prompts:,} prompts, four policies.\n"
    text = "\n".join([head, f"![Win rates]({picture.name})\n", *tables])
    write_atomic(page, lambda part: part.write_text(text, encoding="utf-8"))


def _judge(asked: Asked, world: Grammar, contest: Contest, seed: int, results: Results) -> Judge:
    if asked.name == SIMULATED:
        return SimulatedJudge(world, asked.bias, contest.scale, seed)

    def gold(prompts: list[str], responses: list[str]) -> list[float]:
        return world.score(prompts, responses).tolist()

    scorer = StoredScorer(make_scorer(gold, "gold", "--judge", repr(world.config)), results)
    return make_judge(asked.name, asked.options, scorer, "--judge", results)


def _points(value: Interval | None) -> str:
    """A difference of shares in points, with both ends."""
    if value is None or value.low is None or value.high is None:
        return ABSENT if value is None else f"{number(100 * value.mean, 1)} points"
    low, high = number(100 * value.low, 1), number(100 * value.high, 1)
    return f"{number(100 * value.mean, 1)} points ({low} to {high})"

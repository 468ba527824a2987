"""Figures of an evaluation, from its outputs and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seralign.evaluation.agreement import agreement
from seralign.evaluation.bootstrap import LEAST_PROMPTS, cluster_interval, without_ends
from seralign.evaluation.difficulty import Outcomes
from seralign.evaluation.judges import Judge
from seralign.evaluation.judges.panel import PanelJudge
from seralign.evaluation.length_control import length_control
from seralign.evaluation.metrics import distinct_n, self_bleu
from seralign.evaluation.rating import ratings
from seralign.evaluation.verdict_figures import verdict_figures
from seralign.intervals import Interval, mean_interval
from seralign.pipeline.evaluate.comparisons import Pairing
from seralign.pipeline.evaluate.outputs import Outputs
from seralign.runs.evaluated import (
    CostFigures,
    JudgesFigures,
    PairFigures,
    PanelFigures,
    PolicyFigures,
    RatingFigures,
)
from seralign.servers.usage import Usage


def policy_figures(outputs: Outputs) -> PolicyFigures:
    """Figures of a policy's outputs."""
    answers = [answer for answer in outputs.answers if answer is not None]
    finished = [answer.finished for answer in answers if answer.finished is not None]
    tokens = [answer.tokens for answer in answers if answer.tokens is not None]
    # Words, and not the tokens of each policy, so that policies can be compared.
    words = [answer.text.split() for answer in answers]
    return PolicyFigures(
        name=outputs.name,
        source=outputs.source,
        answered=len(answers),
        unanswered=len(outputs.answers) - len(answers),
        empty=sum(not answer.text.strip() for answer in answers),
        unfinished=1 - sum(finished) / len(finished) if len(finished) == len(answers) > 0 else None,
        characters=mean_interval([len(answer.text) for answer in answers]),
        tokens=mean_interval(tokens) if len(tokens) == len(answers) else None,
        distinct_2=distinct_n(words, 2),
        self_bleu=self_bleu(words),
    )


def pair_figures(pairing: Pairing, controlled: Interval | None) -> PairFigures:
    """Figures of the comparison of two policies. Each prompt is one comparison, so intervals are over prompts.

    Args:
        pairing: The comparison.
        controlled: Its length-controlled win rate.
    """
    compared = pairing.compared
    verdicts = [one.verdict for one in compared]
    found = verdict_figures([one.first_better for one in verdicts], [one.orders for one in verdicts])
    failed = sum(one.error is not None for one in verdicts)
    return PairFigures(
        policy=pairing.policy,
        rival=pairing.rival,
        comparisons=len(compared),
        win_rate=found.win_rate,
        length_controlled=controlled,
        tie_rate=found.tie_rate,
        position_bias=found.position_bias,
        self_agreement=found.self_agreement,
        equal=sum(one.equal for one in compared),
        unreadable=found.unread - failed,
        failed=failed,
    )


def controlled_rates(pairings: Sequence[Pairing], seed: int) -> list[Interval | None]:
    """The length-controlled win rate of each pairing. Lengths are in characters.

    How hard prompts are comes from the other policies that were compared with the same rival. None if the texts of a
    pairing all differ by the same length.
    """
    found: dict[tuple[str, str], Outcomes] = {}
    for pairing in pairings:
        found[pairing.policy, pairing.rival] = _outcomes(pairing, 1)
        found[pairing.rival, pairing.policy] = _outcomes(pairing, -1)
    rates: list[Interval | None] = []
    for pairing in pairings:
        others = [
            outcomes for (name, rival), outcomes in found.items() if rival == pairing.rival and name != pairing.policy
        ]
        rates.append(length_control(found[pairing.policy, pairing.rival], others, seed=seed).controlled)
    return rates


def _outcomes(pairing: Pairing, side: int) -> Outcomes:
    """Outcomes of the policy (1) or of its rival (-1)."""
    read = [one for one in pairing.compared if one.verdict.first_better is not None]
    better = np.array([one.verdict.first_better for one in read], np.float64)
    longer = np.array([len(one.own.text) - len(one.theirs.text) for one in read], np.float64)
    return Outcomes([one.question.prompt.prompt_id for one in read], better if side == 1 else 1 - better, side * longer)


def rating_figures(pairings: Sequence[Pairing], seed: int) -> tuple[RatingFigures, ...]:
    """Ratings of policies that were all compared with each other, the strongest first."""
    rows = [
        (pairing.policy, pairing.rival, one.verdict.first_better, one.question.prompt.prompt_id)
        for pairing in pairings
        for one in pairing.compared
        if one.verdict.first_better is not None
    ]
    policies, rivals, better, prompts = (list(column) for column in zip(*rows, strict=True))
    found = ratings(policies, rivals, better, prompts, seed=seed)
    return tuple(RatingFigures(one.policy, one.strength, one.win_rate) for one in found)


def cost_figures(pairings: Sequence[Pairing], seed: int) -> CostFigures | None:
    """What all verdicts together took; None if no server gave them."""
    by_prompt: dict[str, list[Usage]] = {}
    for pairing in pairings:
        for one in pairing.compared:
            used = by_prompt.setdefault(one.question.prompt.prompt_id, [])
            used += [] if one.verdict.usage is None else [one.verdict.usage]
    sums = [sum(used, Usage()) for used in by_prompt.values()]
    total = sum(sums, Usage())
    if not total.requests:
        return None
    tokens = _per_prompt([one.tokens for one in sums], seed)
    assert tokens is not None
    return CostFigures(
        total.requests,
        total.prompt_tokens,
        total.completion_tokens,
        total.unreported,
        total.cost,
        tokens,
        None if total.cost is None else _per_prompt([one.cost or 0.0 for one in sums], seed),
    )


def _per_prompt(values: Sequence[float], seed: int) -> Interval | None:
    """The mean over prompts; without an interval if there are too few."""
    found = cluster_interval(values, seed=seed)
    return found if len(values) >= LEAST_PROMPTS else without_ends(found)


def panel_figures(judge: Judge, pairings: Sequence[Pairing]) -> PanelFigures | None:
    """How far the judges of a panel agree, over all comparisons; None for another judge."""
    if not isinstance(judge, PanelJudge):
        return None
    members = [one.verdict.members for pairing in pairings for one in pairing.compared]
    found = agreement(judge.names, [one for one in members if one is not None])
    pairs = tuple(JudgesFigures(one.judges, one.comparisons, one.share, one.kappa) for one in found.pairs)
    return PanelFigures(found.alpha, found.alpha_probabilities, pairs)

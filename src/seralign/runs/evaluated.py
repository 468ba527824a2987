"""Figures of an evaluation, as ``results.json`` has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from seralign.intervals import Interval


@dataclass(frozen=True)
class PolicyFigures:
    """The outputs of a policy.

    Args:
        name: Name of the policy.
        source: Where the outputs are from.
        answered: Prompts with an output.
        unanswered: Prompts that the policy could not be asked. They are in no comparison of this policy.
        empty: Outputs without text.
        unfinished: Share of the outputs that were cut at ``max_new_tokens``; None if it is unknown.
        characters: Mean length of the outputs in characters.
        tokens: Mean length in tokens of the policy; None if it is unknown.
        distinct_2: Different pairs of neighbouring words over all such pairs in the outputs; None without any.
        self_bleu: Mean BLEU of each output with the others as references, of words: 1 if all are alike; None with fewer
            than two outputs with text.
    """

    name: str
    source: str
    answered: int
    unanswered: int
    empty: int
    unfinished: float | None
    characters: Interval | None
    tokens: Interval | None
    distinct_2: float | None
    self_bleu: float | None


@dataclass(frozen=True)
class PairFigures:
    """The comparison of a policy with a rival. Shares are in [0, 1], with 95% intervals over prompts.

    Args:
        policy: Name of the policy.
        rival: Name of the policy that it is compared with.
        comparisons: Prompts that both have an output for.
        win_rate: Mean probability that the policy's output is better; a tie counts one half.
        length_controlled: The win rate that is expected of outputs of equal length; None without length control.
        tie_rate: Share of ties.
        position_bias: How much the output that is shown first gains over one half; None unless the judge asks both
            orders.
        self_agreement: Share of the comparisons on which both orders name the same winner; None like the bias.
        equal: Comparisons of two equal texts. They are ties, and the judge is not asked.
        unreadable: Comparisons on which the judge's answer was no verdict. They are in no other figure.
        failed: Comparisons whose request failed. They are asked again when the evaluation is resumed.
    """

    policy: str
    rival: str
    comparisons: int
    win_rate: Interval | None
    length_controlled: Interval | None
    tie_rate: Interval | None
    position_bias: Interval | None
    self_agreement: Interval | None
    equal: int
    unreadable: int
    failed: int


@dataclass(frozen=True)
class RatingFigures:
    """The rating of a policy by Bradley and Terry's model.

    Args:
        policy: Name of the policy.
        strength: In log-odds; the mean of all policies is 0.
        win_rate: Mean probability, by the model, that it beats another policy.
    """

    policy: str
    strength: Interval
    win_rate: Interval


@dataclass(frozen=True)
class CostFigures:
    """What the judge was asked for the verdicts of this evaluation, earlier commands included.

    Args:
        requests: Requests that the judge's server answered.
        prompt_tokens: Tokens of the questions.
        completion_tokens: Tokens of the answers.
        unreported: Requests whose tokens the server did not report. They are not among the tokens.
        money: What the tokens cost, in the currency of the judge's prices; None without prices.
        tokens_per_prompt: Mean tokens of questions and answers that the comparisons of a prompt took.
        money_per_prompt: The same in money; None without prices.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    unreported: int
    money: float | None
    tokens_per_prompt: Interval
    money_per_prompt: Interval | None


@dataclass(frozen=True)
class JudgesFigures:
    """How far two judges of a panel agree.

    Args:
        judges: Their names.
        comparisons: Comparisons on which both have a verdict.
        share: Share of these on which they name the same winner, or both a tie; None without any.
        kappa: Cohen's kappa; None if it is undefined.
    """

    judges: tuple[str, str]
    comparisons: int
    share: float | None
    kappa: float | None


@dataclass(frozen=True)
class PanelFigures:
    """How far the judges of a panel agree.

    Args:
        alpha: Krippendorff's alpha of the winners; None if it is undefined.
        alpha_probabilities: The same of the probabilities.
        pairs: Every two judges.
    """

    alpha: float | None
    alpha_probabilities: float | None
    pairs: tuple[JudgesFigures, ...]


@dataclass(frozen=True)
class EvaluationFigures:
    """All figures of an evaluation.

    Args:
        judge: Name of the judge.
        judge_identity: Everything that its verdicts depend on.
        prompts: Number of prompts.
        baseline: Name of the policy that the others are compared with; None if all are compared with all.
        policies: The policies, in the order of the configuration.
        pairs: The comparisons.
        ratings: The strongest policy first; empty with a baseline, or with only two policies.
        cost: What the judge was asked; None for a judge that asks no server.
        panel: How far the judges of a panel agree; None for another judge.
    """

    judge: str
    judge_identity: str
    prompts: int
    baseline: str | None
    policies: tuple[PolicyFigures, ...]
    pairs: tuple[PairFigures, ...]
    ratings: tuple[RatingFigures, ...]
    cost: CostFigures | None
    panel: PanelFigures | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

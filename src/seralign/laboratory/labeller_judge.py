"""The labeller of a world as the judge of a run, so that new responses can be labelled as the offline pairs were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from seralign.checks import require
from seralign.config.values import build
from seralign.errors import ConfigError
from seralign.evaluation.judges import Comparison, Verdict
from seralign.evaluation.scores import StoredScorer


@dataclass(frozen=True)
class LabellerOptions:
    """Options of the judge ``seralign.laboratory.labeller_judge:LabellerJudge``.

    The defaults are the labeller of ``clauses`` and ``sums`` as worlds have it by default, where a unit of gold reward
    is four points.

    Args:
        gold: How strongly the labeller follows the gold reward, in log-odds per unit of it.
        length: How strongly the labeller prefers length, in log-odds per word.
        noise: Probability that a label is flipped.
    """

    gold: float = 8.0
    length: float = 0.3
    noise: float = 0.2

    def __post_init__(self) -> None:
        require(0.0 <= self.noise <= 1.0, "noise", "in [0, 1]", self.noise)


class LabellerJudge:
    """Gives the labeller's probability, noise + (1 - 2 noise) sigmoid(gold (a - b) + length (words of a - of b)).

    ``world.soft_labels`` gives offline pairs the same probability. Nothing is drawn.

    Args:
        options: The keys of ``LabellerOptions``.
        key: The configuration key that names the judge, for messages.
        scorer: The gold reward, the scorer of every run in a world.

    Raises:
        ConfigError: an option is wrong, or the run has no scorer.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None) -> None:
        self._options: LabellerOptions = build(LabellerOptions, options, f"{key}_options")
        if scorer is None:
            raise ConfigError(f"{key}: the labeller needs the gold reward of a world, or evaluation.scorer")
        self._scorer = scorer
        self.identity = f"labeller {asdict(self._options)}, {scorer.scorer.digest}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``."""
        asked, how = list(comparisons), self._options
        prompts = [each.prompt.text for each in asked]
        first = self._scorer(prompts, [each.first for each in asked])
        second = self._scorer(prompts, [each.second for each in asked])
        longer = np.array([len(each.first.split()) - len(each.second.split()) for each in asked], dtype=float)
        seen = np.clip(how.gold * (first - second) + how.length * longer, -500, 500)
        p = how.noise + (1 - 2 * how.noise) / (1 + np.exp(-seen))
        for each, better in zip(asked, p.tolist(), strict=True):
            yield each, Verdict(better)

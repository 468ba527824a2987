"""The verdicts of a judge as rewards: how often a response is better than the others to its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from seralign.evaluation.judges import Comparison, Judge
from seralign.evaluation.win_rates import verdicts_on
from seralign.progress import say_once
from seralign.records import Prompt
from seralign.rlhf.reward import groups
from seralign.runs.results import Results


@dataclass(frozen=True)
class JudgedReward:
    """Compares every two responses to a prompt.

    The reward of a response is the mean probability that it is better than each other one to the same prompt. Equal
    texts tie and are not compared. Comparisons without a verdict are left out; without any, the reward is 0.5.

    Args:
        judge: The judge.
        results: Where verdicts are stored.
        prompts: The prompts by text.
    """

    judge: Judge
    results: Results
    prompts: Mapping[str, Prompt]

    def __call__(self, prompts: list[str], responses: list[str]) -> np.ndarray:
        """Rewards [N] in [0, 1].

        Raises:
            ConfigError: the judge fails.
        """
        pairs = [pair for rows in groups(prompts) for pair in combinations(rows, 2)]
        asked = [(one, other) for one, other in pairs if responses[one] != responses[other]]
        comparisons = [Comparison(self.prompts[prompts[one]], responses[one], responses[two]) for one, two in asked]
        verdicts = verdicts_on(self.judge, comparisons, self.results, "sampled responses") if comparisons else []
        if any(verdict.first_better is None for verdict in verdicts):
            # Not an error where a whole batch has none: the verdicts are stored, so a run could never pass it.
            say_once("warning: evaluation.judge: no verdict on some comparisons of sampled responses; they are ignored")
        won: list[list[float]] = [[] for _ in responses]
        for (one, other), verdict in zip(asked, verdicts, strict=True):
            if verdict.first_better is not None:
                won[one].append(verdict.first_better)
                won[other].append(1.0 - verdict.first_better)
        for one, other in set(pairs) - set(asked):
            won[one].append(0.5)
            won[other].append(0.5)
        return np.array([float(np.mean(values)) if values else 0.5 for values in won])

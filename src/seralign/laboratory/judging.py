"""Judges where the truth is known: policies of a world with known win rates, and a judge whose biases are known.

Dimension letters: N prompts, K drawn responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seralign.evaluation.judge_calibration import Judged
from seralign.evaluation.judges import Comparison, Verdict
from seralign.laboratory.grammar import SUPERVISED, Grammar, prompt_space
from seralign.records import Prompt, content_id


@dataclass(frozen=True, slots=True)
class JudgeBias:
    """What a simulated judge follows, in log-odds.

    Args:
        gold: For one point of gold reward (a clause, a step). A smaller one is a noisier judge.
        position: For the response that is shown first.
        length: For a response that is much longer than the other.
    """

    gold: float = 2.0
    position: float = 0.0
    length: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Comparisons of policies with a baseline, and their truth.

    Args:
        comparisons: By policy [N]; its response is the first one, and the baseline's the second.
        gold: Difference of gold reward by policy [N].
        longer: Difference of words by policy [N].
    """

    comparisons: dict[str, list[Comparison]]
    gold: dict[str, np.ndarray]
    longer: dict[str, np.ndarray]

    @property
    def scale(self) -> float:
        """Standard deviation of all differences of length, at least 1."""
        return max(1.0, float(np.concatenate(list(self.longer.values())).std(ddof=1)))

    def judged(self, verdicts: Mapping[str, Sequence[Verdict]]) -> dict[str, Judged]:
        """The verdicts of a judge, with the truth, by policy."""
        return {
            name: Judged(
                [comparison.prompt.prompt_id for comparison in asked],
                [verdict.first_better for verdict in verdicts[name]],
                [verdict.orders for verdict in verdicts[name]],
                self.gold[name],
                self.longer[name],
            )
            for name, asked in self.comparisons.items()
        }


def draw_contest(world: Grammar, count: int, seed: int) -> Contest:
    """Four policies against a baseline, on ``count`` held-out prompts.

    The baseline takes one response that the world writes, at random. ``better`` takes the one with the higher gold
    reward of two, ``worse`` the other of two, ``longer`` the longest of four, and ``shorter`` the shortest of four.
    """
    rng = np.random.default_rng([seed, 0x10D6E])
    space = prompt_space(world)[1]
    prompts = space[rng.choice(len(space), count, replace=count > len(space))]
    asked = world.render(prompts)
    sources = np.full(count, SUPERVISED)

    def draw(responses: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Responses, their gold rewards and their lengths [K, N]."""
        written = [world.write(rng, prompts, sources) for _ in range(responses)]
        gold = np.array([world.score(asked, side) for side in written])
        return np.array(written, object), gold, np.array([[len(text.split()) for text in side] for side in written])

    texts, base_gold, base_length = draw(1)
    known = [Prompt(content_id([at, text]), text, ()) for at, text in enumerate(asked)]
    comparisons, gold, longer = {}, {}, {}
    for name, responses, by, sign in (
        ("better", 2, "gold", 1),
        ("worse", 2, "gold", -1),
        ("longer", 4, "length", 1),
        ("shorter", 4, "length", -1),
    ):
        written, own_gold, own_length = draw(responses)
        best = np.argmax(sign * (own_gold if by == "gold" else own_length), 0)
        at = (best, np.arange(count))
        comparisons[name] = [
            Comparison(prompt, first, second)
            for prompt, first, second in zip(known, written[at], texts[0], strict=True)
        ]
        gold[name], longer[name] = own_gold[at] - base_gold[0], (own_length[at] - base_length[0]).astype(np.float64)
    return Contest(comparisons, gold, longer)


class SimulatedJudge:
    """A judge with known biases that draws a verdict in each order. It follows ``seralign.evaluation.judges.Judge``.

    Args:
        world: Whose gold reward it follows.
        bias: Its biases.
        scale: The difference in words that counts as one standard deviation.
        seed: Seed of the verdicts.
    """

    def __init__(self, world: Grammar, bias: JudgeBias, scale: float, seed: int) -> None:
        self._world, self._bias, self._scale, self._seed = world, bias, scale, seed

    @property
    def identity(self) -> str:
        """World, biases and seed."""
        return f"simulated {self._world.config!r} {self._bias!r} {self._scale!r} {self._seed}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """Draw both verdicts on each comparison."""
        asked = list(comparisons)
        prompts = [comparison.prompt.text for comparison in asked]
        first = self._world.score(prompts, [comparison.first for comparison in asked])
        second = self._world.score(prompts, [comparison.second for comparison in asked])
        longer = np.array([len(each.first.split()) - len(each.second.split()) for each in asked], np.float64)
        seen = self._bias.gold * self._world.points * (first - second)
        seen += self._bias.length * np.tanh(longer / self._scale)
        drawn = np.random.default_rng([self._seed, 0x1D6E]).random((2, len(asked)))
        given, swapped = (drawn < 1 / (1 + np.exp(-(seen + self._bias.position * np.array([[1], [-1]]))))).astype(float)
        for comparison, one, other in zip(asked, given.tolist(), swapped.tolist(), strict=True):
            yield comparison, Verdict((one + other) / 2, orders=(one, other))


def pooled(judged: Mapping[str, Judged]) -> Judged:
    """The verdicts on all policies together."""
    every = list(judged.values())
    return Judged(
        [name for one in every for name in one.prompts],
        [better for one in every for better in one.first_better],
        [order for one in every for order in one.orders],
        np.concatenate([one.gold for one in every]),
        np.concatenate([one.longer for one in every]),
    )

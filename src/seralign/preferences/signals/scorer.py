"""A scorer, such as a reward model, that is called with many responses at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from seralign.checks import positive
from seralign.evaluation.scorer import Scorer, load_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Opinion, Scored
from seralign.preferences.signals.texts import prompt_text, response_texts
from seralign.runs.results import Results


@dataclass(frozen=True)
class ScorerSignal:
    """Scores by a function of many responses, such as a reward model. It runs in the main process, without limits.

    Args:
        function: ``module:function``, as for ``evaluation.scorer``: it is called with a list of prompts and a list of
            responses, and returns one finite number for each response. For a reward model in a folder, take the signal
            ``reward_model``.
        temperature: p = sigmoid(difference / temperature); null gives the higher score p = 1. 1 for a reward model of
            Bradley and Terry.
    """

    function: str
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            positive(self.temperature, "temperature")
        _loaded(self.function)

    @property
    def identity(self) -> str:
        """The digest of the function's module."""
        return _loaded(self.function).digest

    def ask(self, groups: Sequence[Group], results: Results) -> list[Opinion]:
        """The scores of all responses.

        Raises:
            ConfigError: The function fails, or does not return one finite number for each response.
        """
        texts = [response_texts(group) for group in groups]
        prompts = [prompt_text(group) for group, own in zip(groups, texts, strict=True) for _ in own]
        scores = StoredScorer(_loaded(self.function), results)(prompts, [text for own in texts for text in own])
        rest = iter(scores.tolist())
        return [Scored(tuple(next(rest) for _ in own)) for own in texts]


@cache
def _loaded(spec: str) -> Scorer:
    return load_scorer(spec, "function")

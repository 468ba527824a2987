"""The judge that scores responses with the implicit reward of a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from seralign.checks import positive
from seralign.config.paths import expanded
from seralign.config.values import build
from seralign.data.table import read_table
from seralign.errors import ConfigError
from seralign.evaluation.implicit import implicit_reward
from seralign.evaluation.judges.base import Comparison, Verdict
from seralign.evaluation.judges.scoring import (
    Dtype,
    Probability,
    Scored,
    ScoringModel,
    probability,
    responses_of,
    score,
    tokens_of,
)
from seralign.evaluation.scores import StoredScorer
from seralign.plugins import source_of
from seralign.policy.heads import LANGUAGE_MODEL
from seralign.policy.saved import SavedPolicy
from seralign.records import content_id
from seralign.rewards.cached_logprobs import scores
from seralign.runs import Run
from seralign.runs.layout import DATA, PROMPTS
from seralign.runs.results import Results


@dataclass(frozen=True)
class ImplicitOptions:
    """Options of the judge ``implicit``: the reward is beta times the implicit reward of the whole response.

    Args:
        policy: The policy: the folder of a run, a model or an adapter, or the name of a model on the hub. The reward of
            a run is that of its objective, as in its own scoring; of another model it is that of DPO,
            log pi - log pi_ref.
        round: Of a run: the policy of this round, ``start`` or ``baseline``. Default: the result.
        reference: The reference, likewise. Default: that of the run.
        beta: Factor of the reward. Default: that of the run's objective; 0.1 if the policy is not a run.
        dtype: Data type of the models.
        tokens_per_pack: Maximum number of tokens in one forward pass.
        probability: As for ``reward_model``.
    """

    policy: str
    round: int | Literal["start", "baseline"] | None = None
    reference: str | None = None
    beta: float | None = None
    dtype: Dtype = "float32"
    tokens_per_pack: int = 4096
    probability: Probability = "sigmoid"

    def __post_init__(self) -> None:
        if self.beta is not None:
            positive(self.beta, "beta")
        positive(self.tokens_per_pack, "tokens_per_pack")


class ImplicitJudge:
    """The response with the higher implicit reward of a policy is better.

    Args:
        options: The keys of ``ImplicitOptions``.
        key: The configuration key that names the judge, for messages.
        scorer: Not used.
        results: Where log-probabilities are stored.

    Raises:
        ConfigError: an option is wrong, the objective of the run has no implicit reward, or the reference is missing.
        SeralignError: there is no such model, or no such policy of the run.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> None:
        section = f"{key}_options"
        self._options, self._results = build(ImplicitOptions, options, section), results
        given = self._options
        self._keys = f"{section}.policy", f"{section}.reference"
        which = "result" if given.round is None else given.round
        reference = None if given.reference is None else expanded(given.reference)
        found = implicit_reward(expanded(given.policy), reference, which=which, keys=self._keys)
        self._reward = found
        self._beta = found.objective.beta if given.beta is None else given.beta
        self._policy = self._model(found.policy)
        self._reference = None if found.reference is None else self._model(found.reference)

    def _model(self, saved: SavedPolicy) -> ScoringModel:
        options = self._options
        of_run = saved.run is not None
        return ScoringModel(
            saved.source,
            LANGUAGE_MODEL,
            options.dtype,
            options.tokens_per_pack,
            saved.loading,
            saved.data if of_run else None,
            _reads_conversations(saved.run),
        )

    @property
    def identity(self) -> str:
        """The weights of the models, the tokenizer, the objective, beta, the data type, and how a reward becomes a
        probability."""
        options, objective = self._options, self._reward.objective
        against = "no reference" if self._reference is None else self._reference.digest[:16]
        kind = type(objective)
        own = "" if kind.__module__.startswith("seralign.") else source_of(kind, "")
        reward = f"{kind.__name__} {content_id([repr(objective), own])[:16]}, beta {self._beta:g}"
        return f"implicit {self._policy.identity} against {against}, {reward}, {options.dtype}, {options.probability}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``. Both models read the tokens of the policy's tokenizer.

        Raises:
            ConfigError: the models have different tokenizers.
            DataError: a prompt cannot be read, or is too long with its response.
            ModelError: a model cannot be loaded.
        """
        asked = list(comparisons)
        responses = responses_of(asked)
        if self._reference is not None and self._policy.vocabulary != self._reference.vocabulary:
            raise ConfigError(f"{self._keys[1]}: its tokenizer is another than that of the policy")
        own, against = self._logps(self._policy, responses), None
        if self._reference is not None:
            against = self._logps(self._reference, responses)
        lengths = np.array([len(tokens) for _, tokens in tokens_of(self._policy, responses).values()], np.int64)
        found = self._beta * scores(self._reward.objective, own, against, lengths)
        rewards = dict(zip(responses, found.tolist(), strict=True))
        for one in asked:
            first, second = rewards[one.prompt, one.first], rewards[one.prompt, one.second]
            yield one, Verdict(probability(first - second, self._options.probability), (first, second))

    def _logps(self, model: ScoringModel, responses: Sequence[Scored]) -> np.ndarray:
        """Log-probabilities of the responses [N]."""
        found = score(model, self._policy, responses, self._results)
        return np.array([found[one] for one in responses], np.float64)


def _reads_conversations(run: Run | None) -> bool:
    """Whether the prompts of a run's training were conversations; True if that is not known."""
    if run is None or not run.exists(DATA):
        return True
    messages = read_table(run.path(DATA, PROMPTS)).select_columns(["messages"])
    return not len(messages) or any(one is not None for one in messages["messages"][:])

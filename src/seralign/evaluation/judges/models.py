"""Judges that score responses with models in this process: a reward model, and a policy's implicit reward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seralign.checks import positive
from seralign.config.values import build
from seralign.errors import ConfigError, ModelError
from seralign.evaluation.judges.base import Comparison, Verdict
from seralign.evaluation.judges.scoring import ScoringModel, probability, responses_of, score
from seralign.evaluation.scores import StoredScorer
from seralign.policy.bases import on_its_base
from seralign.policy.heads import LANGUAGE_MODEL, REWARD
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, fetch
from seralign.rewards.reward_model import open_reward_model
from seralign.runs.results import Results

Probability = Literal["sigmoid", "sign"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class RewardModelOptions:
    """Options of the judge ``reward_model``.

    Args:
        model: A run that trained a reward model, or the folder or hub name of any model in safetensors that
            transformers opens as ``AutoModelForSequenceClassification`` with one label.
        dtype: Data type of the model.
        tokens_per_pack: Maximum number of tokens in one forward pass.
        probability: ``sigmoid``: sigmoid(first reward - second reward), the model of Bradley and Terry, which reward
            models are trained with. ``sign``: 1 for the higher reward, 0.5 for equal ones.
    """

    model: str
    dtype: Dtype = "float32"
    tokens_per_pack: int = 4096
    probability: Probability = "sigmoid"

    def __post_init__(self) -> None:
        positive(self.tokens_per_pack, "tokens_per_pack")


@dataclass(frozen=True)
class ImplicitOptions:
    """Options of the judge ``implicit``: the reward is beta (log pi - log pi_ref) of the whole response.

    Args:
        policy: Folder or hub name of the policy pi: a model, or an adapter, such as ``result`` of a run.
        reference: Folder or hub name of the reference, likewise.
        beta: The beta of its training.
        dtype: Data type of the models.
        tokens_per_pack: Maximum number of tokens in one forward pass.
        probability: As for ``reward_model``.
    """

    policy: str
    reference: str
    beta: float = 0.1
    dtype: Dtype = "float32"
    tokens_per_pack: int = 4096
    probability: Probability = "sigmoid"

    def __post_init__(self) -> None:
        positive(self.beta, "beta")
        positive(self.tokens_per_pack, "tokens_per_pack")


class RewardModelJudge:
    """The response with the higher reward is better.

    Args:
        options: The keys of ``RewardModelOptions``.
        key: The configuration key that names the judge, for messages.
        scorer: Not used.
        results: Where rewards are stored, so that each response is scored once.

    Raises:
        ConfigError: an option is wrong.
        ModelError: there is no such model, or it has no score of one label.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> None:
        self._options, self._results = build(RewardModelOptions, options, f"{key}_options"), results
        found = open_reward_model(self._options.model, f"{key}_options.model")
        self._model = ScoringModel(found.source, REWARD, self._options.dtype, self._options.tokens_per_pack)

    @property
    def identity(self) -> str:
        """The weights of the model, its tokenizer, its data type, and how a reward becomes a probability."""
        return f"reward_model {self._model.identity}, {self._options.dtype}, {self._options.probability}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``.

        Raises:
            DataError: a prompt cannot be read, or is too long with its response.
            ModelError: the model cannot be loaded.
        """
        asked = list(comparisons)
        rewards = score(self._model, self._model, responses_of(asked), self._results)
        for one in asked:
            first, second = rewards[one.prompt, one.first], rewards[one.prompt, one.second]
            yield one, Verdict(probability(first - second, self._options.probability), (first, second))


class ImplicitJudge:
    """The response with the higher implicit reward of a policy is better.

    Args:
        options: The keys of ``ImplicitOptions``.
        key: The configuration key that names the judge, for messages.
        scorer: Not used.
        results: Where log-probabilities are stored.

    Raises:
        ConfigError: an option is wrong.
        ModelError: there is no such model.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> None:
        self._options, self._results = build(ImplicitOptions, options, f"{key}_options"), results
        self._key = key
        self._policy = self._model("policy", self._options.policy)
        self._reference = self._model("reference", self._options.reference)

    def _model(self, name: str, place: str) -> ScoringModel:
        source = _found(place, f"{self._key}_options.{name}")
        return ScoringModel(source, LANGUAGE_MODEL, self._options.dtype, self._options.tokens_per_pack)

    @property
    def identity(self) -> str:
        """The weights of both models, the tokenizer, beta, the data type, and how a reward becomes a probability."""
        options = self._options
        models = f"{self._policy.identity} against {self._reference.digest[:16]}"
        return f"implicit {models}, beta {options.beta:g}, {options.dtype}, {options.probability}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``. Both models read the tokens of the policy's tokenizer.

        Raises:
            ConfigError: the models have different tokenizers.
            DataError: a prompt cannot be read, or is too long with its response.
            ModelError: a model cannot be loaded.
        """
        asked = list(comparisons)
        responses = responses_of(asked)
        if self._policy.vocabulary != self._reference.vocabulary:
            raise ConfigError(f"{self._key}_options.reference: its tokenizer is another than that of the policy")
        own = score(self._policy, self._policy, responses, self._results)
        against = score(self._reference, self._policy, responses, self._results)
        rewards = {one: self._options.beta * (own[one] - against[one]) for one in responses}
        for one in asked:
            first, second = rewards[one.prompt, one.first], rewards[one.prompt, one.second]
            yield one, Verdict(probability(first - second, self._options.probability), (first, second))


def _found(place: str, key: str) -> PolicySource:
    """A model or an adapter with its base, as local folders."""
    try:
        is_adapter = (Path(place) / ADAPTER_SETTINGS).is_file()
        return fetch(on_its_base(Path(place)) if is_adapter else PolicySource(place), "")
    except ModelError as error:
        raise ConfigError(f"{key}: {error}") from None

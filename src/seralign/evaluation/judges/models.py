"""The judge that scores responses with a reward model in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from seralign.checks import positive
from seralign.config.values import build
from seralign.evaluation.judges.base import Comparison, Verdict
from seralign.evaluation.judges.scoring import Dtype, Probability, ScoringModel, probability, responses_of, score
from seralign.evaluation.scores import StoredScorer
from seralign.policy.heads import REWARD
from seralign.rewards.reward_model import open_reward_model
from seralign.runs.results import Results


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

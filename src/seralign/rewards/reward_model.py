"""Reward models from folders: those of ``seralign train``, and others that transformers opens with one label.

Legend: N responses, M models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from torch import nn
from transformers import PreTrainedTokenizerBase

from seralign.config import PolicyConfig
from seralign.data.content import NOTHING, Chat, Inputs, Unencoded
from seralign.data.tokens import Encoder
from seralign.errors import ModelError
from seralign.policy.abilities import packed_length
from seralign.policy.admission import check_kind
from seralign.policy.bases import on_its_base
from seralign.policy.heads import REWARD
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, fetch, finite_digest
from seralign.policy.load import load_model, load_tokenizer
from seralign.records import content_id
from seralign.rewards.cached_logprobs import ScoringPolicy, logps
from seralign.rewards.responses import Responses
from seralign.rewards.texts import scored_tokens, text_encoder
from seralign.runs.cache import LogpCache, numbered_keys
from seralign.runs.layout import MANIFEST, RESULT

_TOKENS_PER_PACK = 4096
# So many different responses with one and the same reward are no coincidence.
_CONSTANT = 4


@dataclass(frozen=True)
class RewardModel:
    """A reward model. Its weights are loaded when something is scored, and stay.

    Args:
        key: The configuration key that names it; messages begin with it.
        name: The folder, or the name on the hub, as the user gave it.
        source: Local folders.
        loading: How model and tokenizer are loaded.
        digest: Of its weights, which are finite.
    """

    key: str
    name: str
    source: PolicySource
    loading: PolicyConfig
    digest: str

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that was saved with it."""
        return load_tokenizer(self.source, self.loading)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the model reads the tokens that a policy writes.

        Raises:
            ModelError: its tokens or its chat template differ from those of the policy's tokenizer.
        """
        own, theirs = self.tokenizer.get_vocab(), tokenizer.get_vocab()
        if own != theirs:
            differ = len(own.items() ^ theirs.items())
            raise ModelError(
                f"{self.key}: {self.name} has another tokenizer than the policy ({differ} tokens differ); give one "
                "that was trained from a model with the policy's tokenizer"
            )
        if self.tokenizer.chat_template != tokenizer.chat_template:
            raise ModelError(
                f"{self.key}: {self.name} has another chat template than the policy; give a reward model that was "
                "trained with the policy's template"
            )

    @property
    def identity(self) -> str:
        """Names everything that the rewards of texts depend on: weights, tokenizer and chat template."""
        tokenizer = self.tokenizer
        content = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template, str(tokenizer.special_tokens_map)]
        return f"reward model {self.digest} {content_id(content)}"

    def score(
        self, prompts: Sequence[Chat | str], responses: Sequence[str], inputs: Sequence[Inputs] | None = None
    ) -> np.ndarray:
        """Rewards of texts [N].

        Args:
            prompts: Conversations, to which the model's chat template is applied; or texts as the model reads them.
            responses: What was answered; an end token is appended, as in training.
            inputs: Tools and the like for the chat template [N]. By default, there are none.

        Raises:
            ModelError: a reward is NaN or infinite, all rewards are the same, or the tokenizer has no chat template.
            DataError: a prompt has no tokens, or a prompt with its response is longer than the model's window.
        """
        examples = [
            _example(prompt, response, f"{self.key}: response {number}", own)
            for number, (prompt, response, own) in enumerate(
                zip(prompts, responses, inputs or [NOTHING] * len(prompts), strict=True)
            )
        ]
        sequences = scored_tokens(self._encoder, examples)
        columns = {
            "prompt_ids": pa.array([prompt for prompt, _ in sequences], pa.list_(pa.int32())),
            "response_ids": pa.array([[response] for _, response in sequences], pa.list_(pa.list_(pa.int32()))),
        }
        return self.rewards(Responses(datasets.Dataset(pa.table(columns), fingerprint="rewards")))

    def rewards(
        self,
        responses: Responses,
        cache: LogpCache | None = None,
        *,
        tokens_per_pack: int = _TOKENS_PER_PACK,
        precision: str = "float32",
    ) -> np.ndarray:
        """Rewards of token ids [N], which must be those of this model's tokenizer.

        Args:
            responses: What is scored.
            cache: Of rewards; its keys have the digest of the weights.
            tokens_per_pack: Maximum number of tokens of a forward pass.
            precision: Of the forward passes.

        Raises:
            ModelError: a reward is NaN or infinite, or all rewards are the same.
        """
        longest = packed_length(self.source, self.loading, REWARD.families)
        packs = responses.packs(tokens_per_pack, longest)
        load = partial(self.model, precision)
        policy = ScoringPolicy(self.name, self.digest, load, precision=precision, head=REWARD)
        try:
            found = logps(responses, packs, policy, cache)
        except ModelError as error:
            raise ModelError(f"{self.key}: {error}") from None
        if np.ptp(found) == 0 and len(numbered_keys(responses.keys)[1]) >= _CONSTANT:
            raise ModelError(
                f"{self.key}: {self.name} gives the reward {found[0]:g} to all of {len(found)} responses; its score is "
                "not trained, or broken"
            )
        return found

    def model(self, precision: str = "float32") -> nn.Module:
        """The model, loaded to score in a precision. It stays until it is asked for in another one.

        Mixed precision casts the weights of linear layers once (``load_model``), so they cannot score in float32.
        """
        if precision not in self._loaded:
            self._loaded.clear()
            self._loaded[precision] = load_model(self.source, self.loading, "float32", head=REWARD, scores_in=precision)
        return self._loaded[precision]

    @cached_property
    def _loaded(self) -> dict[str, nn.Module]:
        """The loaded model by the precision that it scores in; at most one."""
        return {}

    @cached_property
    def _encoder(self) -> Encoder:
        return text_encoder(self.source, self.loading, self.tokenizer)


def _example(prompt: Any, response: str, where: str, inputs: Inputs) -> Unencoded:
    is_text = isinstance(prompt, str)
    answer: Any = response if is_text else ({"role": "assistant", "content": response},)
    return Unencoded(prompt if is_text else tuple(prompt), (answer,), where, inputs)


def open_reward_model(name: str, key: str, loading: PolicyConfig | None = None) -> RewardModel:
    """Find a reward model and check it, without loading its weights.

    Args:
        name: A folder with a model or an adapter, a run that trained one, or a model on the hub.
        key: The configuration key that names it.
        loading: How it is loaded. Default: its own tokenizer, no code of its own.

    Raises:
        ModelError: there is none, it has other than one label, or a weight is NaN; the message begins with the key.
    """
    given, place = loading or PolicyConfig(), Path(name)
    if (place / MANIFEST).is_file():
        place = place / RESULT
        if not place.is_dir():
            raise ModelError(f"{key}: the run {name} has no result yet; finish it with seralign train")
    try:
        is_adapter = (place / ADAPTER_SETTINGS).is_file()
        source = fetch(on_its_base(place) if is_adapter else PolicySource(str(place)), "")
        settings = check_kind(source, given, "", REWARD)
        architecture = next(iter(settings.architectures or ()), "")
        if not is_adapter and not architecture.endswith(REWARD.architectures):
            raise ModelError(
                f"{name} has no score ({architecture or 'no architecture in config.json'}); give a reward model, an "
                "AutoModelForSequenceClassification with one label, such as the result of objective.name: reward"
            )
        return RewardModel(key, name, source, given, finite_digest(source))
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from None


@dataclass(frozen=True)
class Rewards:
    """Rewards of responses by several models [N]: their mean, and their standard deviation, 0 for one model."""

    mean: np.ndarray
    spread: np.ndarray

    def cautious(self, penalty: float) -> np.ndarray:
        """The mean less ``penalty`` times the standard deviation [N]."""
        return self.mean - penalty * self.spread


def ensemble_rewards(of_models: Sequence[np.ndarray]) -> Rewards:
    """The mean and the standard deviation over M models of their rewards [N] each.

    For example, the rewards 1, 2 and 6 have the mean 3 and the standard deviation sqrt((4 + 1 + 9) / 3) = 2.160247.
    """
    together = np.stack(list(of_models))
    return Rewards(together.mean(axis=0), together.std(axis=0))

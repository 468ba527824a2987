"""How responses are sampled: the same keys in every section that samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from seralign.checks import fraction, not_negative, positive
from seralign.config.secrets import refuse_secrets

# The value of ``max_new_tokens: null``, unless another section sets it.
MAX_NEW_TOKENS = 256
# The engine that samples with the policy in this process.
LOCAL = "local"


@dataclass(frozen=True)
class SamplingConfig:
    """How responses are sampled.

    Args:
        temperature: Sampling temperature. 0 takes the most probable token (greedy), and is refused where several
            different responses to a prompt are sampled.
        top_p: Nucleus sampling: the smallest set of tokens with at least this probability.
        max_new_tokens: Maximum number of tokens of a response. A longer response is unfinished and makes no pair.
            Default: 256; in ``evaluation``, the value of ``bootstrap``.
        batch_size: Number of prompts sampled together.
        engine: The sampling engine: ``local``, the model in this process; ``server``, a server of the OpenAI API;
            ``vllm``, which starts vLLM's server (docs/engines.md); or ``module:class`` of your own (docs/extending.md).
        engine_options: Settings of the engine; ``local`` has none. Secrets are refused, because the files of a run
            contain the configuration.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    batch_size: int = 16
    engine: str = LOCAL
    engine_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        not_negative(self.temperature, "temperature")
        fraction(self.top_p, "top_p")
        if self.max_new_tokens is not None:
            positive(self.max_new_tokens, "max_new_tokens")
        positive(self.batch_size, "batch_size")
        refuse_secrets(self.engine_options, "engine_options")

    @property
    def limit(self) -> int:
        """``max_new_tokens``, or its default."""
        return MAX_NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens

"""Options of the judge that asks a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.fields import INLINE
from seralign.config.secrets import refuse_secrets
from seralign.config.server import PricesConfig, ServerConfig
from seralign.errors import ConfigError

_OWN_KEYS = {
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "logprobs",
    "top_logprobs",
    "stream",
    "n",
}


@dataclass(frozen=True)
class ServerJudgeOptions:
    """Options of the judge ``server``: those of ``ServerConfig``, and these.

    Args:
        server: The server.
        template: What is asked: ``pairwise``, ``pairwise_logprobs``, ``single``, ``five_grades``, or the path of a YAML
            file of your own (docs/judges.md).
        orders: ``both``: ask twice, with each response shown first once, and take the mean. ``one``: ask once; which
            response is shown first depends on the texts, and is the same each time. Grades of single responses have no
            order.
        temperature: Sampling temperature. Default: that of the template.
        top_p: Nucleus sampling.
        max_tokens: Maximum number of tokens of an answer. Default: that of the template.
        seed: Seed of the server's sampling, if it has one.
        top_logprobs: Number of alternatives of the answer token, for templates that read its probabilities.
        extra: Other keys of the request, such as ``reasoning_effort``. With ``max_completion_tokens``, ``max_tokens``
            is not sent. A model that refuses ``max_tokens`` is sent the same limit by this name.
        prices: Prices of tokens, to compute the cost.
        max_tokens_spent: Budget in tokens of prompts and answers. A process that has spent it asks nothing more, and
            ends with a message. Verdicts so far are kept.
        max_cost: Budget in the currency of ``prices``.
    """

    server: ServerConfig = field(metadata=INLINE)
    template: str = "pairwise"
    orders: Literal["both", "one"] = "both"
    temperature: float | None = None
    top_p: float = 1.0
    max_tokens: int | None = None
    seed: int | None = None
    top_logprobs: int = 20
    extra: dict[str, Any] = field(default_factory=dict)
    prices: PricesConfig | None = None
    max_tokens_spent: int | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            require(self.temperature >= 0, "temperature", "at least 0", self.temperature)
        require(0.0 < self.top_p <= 1.0, "top_p", "in (0, 1]", self.top_p)
        if self.max_tokens is not None:
            positive(self.max_tokens, "max_tokens")
        require(2 <= self.top_logprobs <= 100, "top_logprobs", "in [2, 100]", self.top_logprobs)
        refuse_secrets(self.extra, "extra")
        own = sorted(_OWN_KEYS & set(self.extra))
        if own:
            raise ConfigError(f"extra must not have {own[0]}, which is set by another key or by the judge")
        if self.max_tokens_spent is not None:
            positive(self.max_tokens_spent, "max_tokens_spent")
        if self.max_cost is not None:
            positive(self.max_cost, "max_cost")
            if self.prices is None:
                raise ConfigError("max_cost needs prices: set prices.prompt and prices.completion")

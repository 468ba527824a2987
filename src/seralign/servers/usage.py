"""How much a server was asked: requests and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from seralign.config.server import PricesConfig


class Used(Protocol):
    """The tokens of a request, as a server reports them."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests that were answered, and their tokens.

    Args:
        requests: Answered requests.
        prompt_tokens: Tokens of their prompts.
        completion_tokens: Tokens of their answers, those of hidden reasoning included.
        unreported: Requests whose tokens the server did not report. They are not among the tokens.
        cost: What the tokens cost, in the currency of the prices; None without prices.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreported: int = 0
    cost: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.unreported + other.unreported,
            other.cost if self.cost is None else self.cost + (other.cost or 0.0),
        )


def reported(found: Any) -> Used | None:
    """The tokens that a response of ``openai`` reports; None if it reports none, or no whole numbers."""
    used = getattr(found, "usage", None)
    counts = [getattr(used, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return used if all(isinstance(count, int) for count in counts) else None


def usage_of(used: Used | None, prices: PricesConfig | None = None) -> Usage:
    """The usage of one answered request; ``None`` where the server did not report it."""
    if used is None:
        return Usage(1, unreported=1)
    prompt, completion = used.prompt_tokens, used.completion_tokens
    cost = None if prices is None else (prompt * prices.prompt + completion * prices.completion) / 1e6
    return Usage(1, prompt, completion, cost=cost)

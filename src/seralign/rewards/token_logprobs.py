"""Log-probabilities of each token of responses under a policy.

Legend: R responses, T tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seralign import distributed
from seralign.errors import ModelError
from seralign.policy.logprobs import response_token_logps, summed
from seralign.policy.precision import exact_dtype
from seralign.policy.token_logps import TokenLogps
from seralign.progress import bar
from seralign.rewards.cached_logprobs import ScoringPolicy, forward
from seralign.rewards.responses import Responses


def token_logps(
    responses: Responses, packs: Sequence[np.ndarray], policy: ScoringPolicy
) -> tuple[np.ndarray, TokenLogps]:
    """Log-probabilities of responses [R], and of their tokens, computed in the given packs.

    Args:
        responses: What to score.
        packs: Numbers of the responses that go through the model together.
        policy: The policy to score with.

    Raises:
        ModelError: a log-probability is not finite.
    """
    lengths = np.asarray(responses.lengths, dtype=np.int64)
    sums, tokens = np.full(len(lengths), np.nan), TokenLogps(np.full(lengths.sum(), np.nan, dtype=np.float32), lengths)
    begins = np.cumsum(lengths) - lengths
    model = policy.load().eval()
    world, rank = distributed.world_size(), distributed.rank()
    with bar(f"token log-probabilities, {policy.name}", sum(map(len, packs)), "response") as line:
        for start in range(0, len(packs), world):
            together = packs[start : start + world]
            own = together[min(rank, len(together) - 1)]
            found = distributed.gather(forward(model, responses, own, policy, _both))
            for pack, scores in zip(together, found, strict=False):
                if not np.isfinite(scores).all():
                    raise ModelError(f"{policy.name}: log-probabilities that are not finite; the model is broken")
                sums[pack] = scores[: len(pack)]
                parts = np.split(scores[len(pack) :], np.cumsum(lengths[pack])[:-1])
                for number, part in zip(pack, parts, strict=True):
                    tokens.values[begins[number] : begins[number] + lengths[number]] = part
                line.advance(len(pack))
    return sums, tokens


def _both(model: nn.Module, lengths: Tensor, **batch: Any) -> Tensor:
    """The sums of the responses of a pack, then their tokens: [R + T]."""
    tokens = response_token_logps(model, **batch)
    return torch.cat([summed(tokens, lengths), tokens.to(exact_dtype(tokens.device))])

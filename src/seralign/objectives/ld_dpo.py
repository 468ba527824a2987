"""Length-desensitized direct preference optimization (2409.06411)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, Need, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, sides, soft_loss_of
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LDDPO:
    """LD-DPO: -log sigmoid(beta h), h of log-probabilities in which tokens past the shorter length count alpha.

    2409.06411. The first min(|y_w|, |y_l|) tokens of both responses count whole, those of the longer one after them
    alpha, under the policy and the reference alike. At alpha = 1 this is ``dpo``; at 0, what is longer is not read at
    all. TRL's ``ld_alpha`` is this alpha; LLaMA-Factory's is for the policy alone.

    The implicit reward of a response is the log-ratio of all its tokens: it has no other response to be as long as.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h), or conservative, the expected loss.

    Worked by hand, beta = 0.1, alpha = 0.5: log-ratios of tokens 1, 2, 4 (w) and -1, -2 (l). Two tokens are shared, so
    h = 1 + 2 + 0.5 * 4 - (-1 - 2) = 8 and the loss is log(1 + exp(-0.8)) = 0.371101. With p = 0.8, 0.6 h = 4.8 and the
    geometric loss is log(1 + exp(-0.48)) = 0.481675; the conservative one is 0.8 * 0.371101 + 0.2 * 1.171101 =
    0.531101.

    Args:
        beta: Strength of the implicit reward.
        alpha: What a token past the shorter length counts, from 0 to 1.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    alpha: float = 0.5
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"tokens"})

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(0 <= self.alpha <= 1, "alpha", "from 0 to 1", self.alpha)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio of all tokens, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        import torch
        from torch.nn.functional import logsigmoid

        assert responses.tokens is not None
        ratios = responses.tokens.by_response(responses.lengths, log_ratio)
        shared = torch.minimum(*sides(responses, responses.lengths)).repeat(2)
        place = torch.arange(ratios.shape[1], device=ratios.device)
        is_shared = place < shared[:, None]
        chosen, rejected = sides(responses, ratios.where(is_shared, self.alpha * ratios).sum(dim=1))
        return soft_loss_of(self.soft_labels, chosen - rejected, responses, lambda h: -logsigmoid(self.beta * h))

"""DPO on rankings: the Plackett-Luce model (2305.18290, appendix A.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PlackettLuce:
    """Plackett-Luce: -sum_k log(exp(beta rho_k) / sum_{j >= k} exp(beta rho_j)), y_1 best (2305.18290, equation 20).

    Each response is chosen among itself and those ranked below it. A tie says nothing about the order of its responses:
    each is compared with those below the tie alone. So a ranking whose last responses are tied is a top-k ranking. The
    loss is summed over the responses of a ranking. With two responses it is ``dpo``, to the last bit.

    Worked by hand, beta = 0.1, log-ratios 2, -3 and 1 of the ranks 1, 2 and 3: log(1 + exp(-0.5) + exp(-0.1)) is
    0.920828 and log(1 + exp(0.4)) = 0.913015, so the loss is 1.833843. With ``top`` = 1 it is 0.920828, as with the
    ranks 1, 2, 2. With the ranks 1, 1, 2 it is log(1 + exp(-0.1)) + log(1 + exp(0.4)) = 1.557412.

    Args:
        beta: Strength of the implicit reward.
        top: Only the best responses are chosen, as many as this; the order of the others is not read. Default: all.
    """

    beta: float = 0.1
    top: int | None = None

    forms: ClassVar[frozenset[Form]] = frozenset({"ranking"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(self.top is None or self.top >= 1, "top", "at least 1", self.top)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        rewards = self.reward(responses.policy, responses.reference, responses.lengths)
        return chosen_losses(responses, rewards, self.beta, self.top)


def chosen_losses(responses: ResponseValues, rewards: Tensor, beta: float = 1.0, top: int | None = None) -> Tensor:
    """The loss of Plackett and Luce [N], from rewards [R] of ranked responses.

    Args:
        responses: Of N rankings.
        rewards: [R], without beta.
        beta: Strength of the rewards.
        top: As in ``PlackettLuce``.
    """
    import torch
    from torch.nn.functional import logsigmoid

    padded = responses.padded(rewards, 0.0)
    # Ranks of absent responses are infinite here and minus infinite there: they are below none, and none is below.
    ranks, others = (responses.padded(responses.preference, fill) for fill in (torch.inf, -torch.inf))
    below = others[:, None, :] > ranks[:, :, None]
    chosen = below.any(dim=2)
    if top is not None:
        chosen &= (ranks[:, None, :] < ranks[:, :, None]).sum(dim=2) < top
    margins = beta * (padded[:, :, None] - padded[:, None, :])[chosen]
    # Of two responses this is the margin itself, so that the loss is that of dpo.
    against = torch.where(below[chosen], -margins, -torch.inf).logsumexp(dim=1)
    losses = -logsigmoid(-against)
    return losses.new_zeros(responses.examples).index_add(0, chosen.nonzero()[:, 0], losses)

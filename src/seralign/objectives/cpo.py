"""Contrastive preference optimization (2401.08417)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.pairs import SoftLabels, mean_nll, soft_loss
from seralign.objectives.settings import check_beta, check_weight
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CPO:
    """CPO: -log sigmoid(beta h) - alpha log pi(y_w) / |y_w|, h = log pi(y_w) - log pi(y_l) (2401.08417).

    Log-probabilities in h are summed, and there is no reference. The second term is the supervised loss of the chosen
    response per token, as in the authors' code; alpha is ``nll_weight``, 1 in the paper. CPO-SimPO is a list:
    ``objective: [{name: simpo}, {name: nll, weight: 0.05}]``.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h), or conservative, the expected loss. The supervised term is
    expected in both: it counts the other response with 1 - p.

    Worked by hand, beta = 0.1, alpha = 1: log pi = -10 over 5 tokens (w) and -14 over 4 (l) give h = 4 and the loss
    log(1 + exp(-0.4)) + 2 = 2.513015. With p = 0.8, the geometric loss is log(1 + exp(-0.24)) + 0.8 * 2 + 0.2 * 3.5 =
    2.880330, and the conservative one 0.8 * 0.513015 + 0.2 * 0.913015 + 2.3 = 2.893015.

    Args:
        beta: Strength of the implicit reward.
        nll_weight: Weight of the supervised term, at least 0.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    nll_weight: float = 1.0
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_weight(self.nll_weight, "nll_weight")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x), in nats."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        contrast = soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h))
        return contrast + self.nll_weight * mean_nll(responses)

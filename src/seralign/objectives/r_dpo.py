"""R-DPO, length-regularised direct preference optimization (2403.19159)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, margin, soft_loss_of
from seralign.objectives.settings import check_beta, check_weight
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LengthRegularizedDPO:
    """R-DPO: -log sigmoid(beta h + alpha (|y_w| - |y_l|)) (2403.19159, equation 9), h the difference of the log-ratios.

    The margin that the data ask for is the less, the longer the chosen response is: what length explains is not
    learned. alpha is per token. ``robust`` is the loss for noisy labels that is also called rDPO.

    The implicit reward is the log-ratio, the reward less its penalty of length.

    A soft label is geometric, -log sigmoid((2p - 1) (beta h + alpha (|y_w| - |y_l|))), or conservative, the expected
    loss.

    Worked by hand, beta = 0.1, alpha = 0.2: log-ratios 2 over 5 tokens (w) and -3 over 4 (l) give h = 5 and the loss
    log(1 + exp(-0.7)) = 0.403186. With p = 0.8, the geometric loss is log(1 + exp(-0.42)) = 0.505037 and the
    conservative one 0.8 * 0.403186 + 0.2 * 1.103186 = 0.543186.

    Args:
        beta: Strength of the implicit reward.
        alpha: Penalty of a token of length, at least 0.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    alpha: float = 0.01
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_weight(self.alpha, "alpha")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        longer = responses.first(responses.lengths) - responses.second(responses.lengths)
        z = self.beta * margin(self, responses) + self.alpha * longer
        return soft_loss_of(self.soft_labels, z, responses, lambda z: -logsigmoid(z))

"""Conservative direct preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import expected, margin, smoothed
from seralign.objectives.settings import check_beta, check_flips
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ConservativeDPO:
    """cDPO: -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h) (Mitchell's note, equation 3).

    The note is "A note on DPO with noisy preferences & relationship to IPO" (2023). The labels of the data are taken to
    be flipped with probability e, ``label_smoothing``. h is the difference of the two log-ratios. The loss is least at
    sigmoid(beta h) = 1 - e.

    A soft label makes it the expected loss: e becomes 1 - q, with q = p (1 - e) + (1 - p) e. At e = 0 this is ``dpo``
    with ``soft_labels: conservative``.

    Worked by hand, beta = 0.1, e = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11 give h = 5, and
    -log sigmoid is 0.474077 at 0.5 and 0.974077 at -0.5. The loss is 0.9 * 0.474077 + 0.1 * 0.974077 = 0.524077. With
    p = 0.8, q = 0.74 and the loss is 0.604077.

    Args:
        beta: Strength of the implicit reward.
        label_smoothing: Probability that a label is flipped, at least 0 and below 1/2.
    """

    beta: float = 0.1
    label_smoothing: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_flips(self.label_smoothing)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        z = self.beta * margin(self, responses)
        q = smoothed(responses.first(responses.preference), self.label_smoothing)
        return expected(q, -logsigmoid(z), -logsigmoid(-z))

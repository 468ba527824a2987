"""Demonstrations and preferences in one stage: alignment with integrated human feedback (2406.06874)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, soft_loss_of
from seralign.objectives.settings import check_beta, check_weight
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AIHF:
    """AIHF, direct: -log sigmoid(beta h) of a pair, as ``dpo``, and -w log pi(y|x) of a demonstration (2406.06874).

    AIHF learns one reward R from both kinds of data: it maximises w L1 + L2, where

    - L1 = E_demonstrations[log pi_R(y|x)], and pi_R = pi_ref exp(R / beta) / Z is the optimal policy of R, with the KL
      divergence to the reference weighted by beta;
    - L2 = E_pairs[log sigmoid(R(y_w) - R(y_l))].

    Since log pi_R = log pi_ref + R / beta - log Z, and the gradient of log Z is E_pi_R[grad R] / beta,

        grad L1 = (E_demonstrations[grad R] - E_pi_R[grad R]) / beta,

    the gradient of maximum-likelihood inverse reinforcement learning (2405.17888): the reward of demonstrations rises,
    and that of the policy's own responses falls. With the implicit reward R = beta log(pi / pi_ref) + beta log Z the
    policy of R is pi itself, the second expectation is 0, and L1 is the log-likelihood of the demonstrations. Z cancels
    in L2. So the loss is that of the first line, without reward model and sampling. ``docs/self_play.md`` has the other
    form, with a reward model that is trained on pairs and on pairs (demonstration, own response).

    Every row counts once: with P pairs and D demonstrations, a step's loss has the expectation (P L_pairs + D w
    L_demonstrations) / (P + D). The log-likelihood is summed over tokens, as in L1.

    Worked by hand, beta = 0.1, w = 0.1: a demonstration with log pi = -10 has the loss 1. The pair with log pi = -10
    (w) and -14 (l), log pi_ref = -12 and -11 has h = 5 and the loss log(1 + exp(-0.5)) = 0.474077.

    Args:
        beta: Strength of the implicit reward.
        demonstration_weight: w, at least 0. The gradient of log pi has the factor w for a demonstration, and beta / 2
            at the start for a response of a pair. At w = beta, demonstrations soon decide alone, and 0.01 did better
            in the laboratory.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    demonstration_weight: float = 0.01
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair", "demonstration"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_weight(self.demonstration_weight, "demonstration_weight")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        import torch
        from torch.nn.functional import logsigmoid

        count, preference = responses.examples, responses.preference
        shown = responses.first(preference).isnan()
        rewards = self.reward(responses.policy, responses.reference, responses.lengths)
        # Demonstrations have no second response.
        margin = responses.first(rewards).index_add(0, responses.example[count:], -rewards[count:])
        # A NaN would be in the gradient, whatever is done with the loss.
        labelled = replace(responses, preference=preference.nan_to_num(1.0))
        compared = soft_loss_of(self.soft_labels, margin, labelled, lambda h: -logsigmoid(self.beta * h))
        return torch.where(shown, -self.demonstration_weight * responses.first(responses.policy), compared)

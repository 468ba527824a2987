"""Supervised fine-tuning on the chosen responses."""

from __future__ import annotations

from seralign.objectives.base import Array, LogProbs, Objective, ObjectiveOutput


def log_prob(policy: Array, reference: Array | None, length: Array) -> Array:
    """log pi(y|x) in nats; neither the reference nor the length is read."""
    return policy


def sft() -> Objective:
    """SFT: -log pi(y_w | x), the preferred-SFT baseline of 2305.18290.

    The loss of a pair is summed over the response's tokens, and its unit is the token: a batch's loss is the sum of
    the losses over the sum of the chosen lengths, the mean over tokens, as TRL's SFT. The rejected response, the
    reference and the label p are not read, so ``rejected_reward`` and ``margin`` are None.

    Worked by hand: log pi = -10 over 5 tokens and -14 over 3 tokens have the losses 10 and 14, and the batch's loss is
    24 / 8 = 3 nats per token.
    """

    def loss(logps: LogProbs) -> ObjectiveOutput:
        return ObjectiveOutput(
            loss=-logps.policy_chosen,
            chosen_reward=logps.policy_chosen.detach(),
            rejected_reward=None,
            margin=None,
        )

    return Objective("sft", 1.0, uses_reference=False, uses_rejected=False, unit="token", score=log_prob, loss=loss)

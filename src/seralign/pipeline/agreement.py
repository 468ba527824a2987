"""Soft labels of generated pairs, from the agreement of the last two policies (CREAM, 2410.12735)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.scoring import policy_logps
from seralign.rewards.agreement import agreement_labels, mean_agreement, ranking_agreement
from seralign.rewards.pairing import Contrast, judged_contrasts
from seralign.rewards.responses import Responses
from seralign.rewards.usable import Usable


def agreed(
    loop: Loop,
    reference: Policy,
    responses: Responses,
    usable: Usable,
    rewards: Sequence[np.ndarray],
    found: Sequence[Contrast],
) -> tuple[list[Contrast], float]:
    """Pairs with soft labels (``bootstrap.agreement``).

    If only one policy has been trained, the reference ranks the responses by their mean log-probability per token, as
    in the code of the authors: its own implicit rewards are 0.

    Args:
        loop: The run.
        reference: That of the last policy.
        responses: All candidates.
        usable: Rows of those that can form pairs, by prompt.
        rewards: Implicit rewards of all candidates [N] under the last policy, and under the one before it, if any.
        found: Pairs.

    Returns:
        The pairs, and the mean agreement over all prompts.
    """
    assert loop.config.bootstrap is not None
    assert loop.config.bootstrap.agreement != "none"
    before = rewards[1] if len(rewards) > 1 else policy_logps(loop, reference, responses) / responses.lengths
    agreement = ranking_agreement(usable.items(), rewards[0], before)
    labels = agreement_labels(agreement, [pair.prompt_id for pair in found], loop.config.bootstrap.agreement)
    made, _ = judged_contrasts(found, labels)
    return made, mean_agreement(agreement)

"""Held-out pairs under a run's policies, computed once: in the training or the evaluation, whichever comes first.

Both use the same packs, so their numbers are equal to the last bit. If training and scoring have different precisions,
each computes its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np

from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.scoring import PairScores, pair_scores
from seralign.rewards.cached_logprobs import keep_logps, known_logps
from seralign.rewards.responses import Responses
from seralign.training.plan import Pack
from seralign.training.train import heldout_packs


def heldout_scores(loop: Loop, policy: Policy, reference: Policy, pairs: datasets.Dataset) -> PairScores:
    """Margins of held-out pairs, in the precision of scoring."""
    packs = heldout_packs(pairs, loop.objective, loop.config.training, loop.packed_length)
    return pair_scores(loop, policy, reference, pairs, _packs(Responses(pairs), packs))


def known_heldout(loop: Loop, policy: Policy, pairs: datasets.Dataset, packs: Sequence[Pack]) -> np.ndarray | None:
    """Log-probabilities [R] under a policy as the trainer would compute them, if all are in the cache; else None."""
    responses = Responses(pairs)
    return known_logps(responses, _packs(responses, packs), loop.training_policy(policy), loop.cache)


def keep_heldout(
    loop: Loop, policy: Policy, pairs: datasets.Dataset, packs: Sequence[Pack], values: np.ndarray
) -> None:
    """Put log-probabilities [R] that the trainer computed under a policy into the cache."""
    responses = Responses(pairs)
    own = _packs(responses, packs)
    keep_logps(responses, own, loop.training_policy(policy), loop.cache, values)


def _packs(responses: Responses, packs: Sequence[Pack]) -> list[np.ndarray]:
    return [responses.numbering.of_rows(pack.rows) for pack in packs]

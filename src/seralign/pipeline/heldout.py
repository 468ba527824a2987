"""Held-out pairs under a run's policies, computed once: in the training or the evaluation, whichever comes first.

Both use the same packs, so their numbers are equal to the last bit. If training and scoring have different precisions,
each computes its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np

from seralign.data.table_columns import forms, numbered_responses
from seralign.objectives import ObjectiveSum
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.scoring import PairScores, pair_scores
from seralign.rewards.cached_logprobs import keep_logps, known_logps
from seralign.rewards.ordering import ordering_of
from seralign.rewards.responses import Responses
from seralign.training.plan import Pack, response_packs
from seralign.training.train import heldout_packs


def have_margins(heldout: datasets.Dataset, objective: ObjectiveSum) -> bool:
    """Whether held-out examples have margins: there are some, all order responses, and the objective compares them."""
    if not objective.compares or not len(heldout) or not set(forms(heldout)) <= {"pair", "ranking", "scores"}:
        return False
    return bool(ordering_of(heldout).pairs.all())


def heldout_scores(loop: Loop, policy: Policy, reference: Policy, pairs: datasets.Dataset) -> PairScores:
    """Margins of held-out pairs, in the precision of scoring."""
    packs = heldout_packs(pairs, loop.objective, loop.config.training, loop.packed_length)
    return pair_scores(loop, policy, reference, pairs, response_packs(packs, numbered_responses(pairs)))


def known_heldout(loop: Loop, policy: Policy, pairs: datasets.Dataset, packs: Sequence[Pack]) -> np.ndarray | None:
    """Log-probabilities [R] under a policy as the trainer would compute them, if all are in the cache; else None."""
    responses = Responses(pairs)
    return known_logps(responses, response_packs(packs, responses.numbering), loop.training_policy(policy), loop.cache)


def keep_heldout(
    loop: Loop, policy: Policy, pairs: datasets.Dataset, packs: Sequence[Pack], values: np.ndarray
) -> None:
    """Put log-probabilities [R] that the trainer computed under a policy into the cache."""
    responses = Responses(pairs)
    own = response_packs(packs, responses.numbering)
    keep_logps(responses, own, loop.training_policy(policy), loop.cache, values)

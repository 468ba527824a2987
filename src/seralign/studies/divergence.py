"""The divergence of a policy from the supervised one, exact where it can be.

Legend: N responses, B of them together, T tokens of the longest with its prompt, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

_LOGITS = 1 << 24


@torch.no_grad()
def response_kls(
    policy: nn.Module, reference: nn.Module, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """KL(policy, reference) at the positions of responses that were sampled from the policy at temperature 1.

    sum_t sum_v pi(v|x, y_<t) log(pi(v|x, y_<t) / pi_ref(v|x, y_<t)): the divergence of the whole next-token
    distributions, not of the tokens that were drawn. Its mean over responses has the same expectation as the mean
    log-ratio, KL(pi, pi_ref), and less variance (Rao-Blackwell), and it is never negative.

    Args:
        policy: Whom the responses are from, in evaluation mode.
        reference: Against whom, with the same vocabulary.
        sequences: (prompt ids, response ids), no prompt empty.

    Returns:
        [N] nats.
    """
    vocabulary = int(policy.config.get_text_config().vocab_size)  # pyright: ignore
    order = sorted(range(len(sequences)), key=lambda at: sum(map(len, sequences[at])))
    longest = max((sum(map(len, sequence)) for sequence in sequences), default=0)
    together = max(1, _LOGITS // max(1, longest * vocabulary))
    found = np.zeros(len(sequences))
    for start in range(0, len(order), together):
        rows = order[start : start + together]
        found[rows] = _batch([sequences[row] for row in rows], policy, reference)
    return found


def best_of_kl(draws: int) -> float:
    """KL of the best of n independent draws from the policy that drew them: log n - (n - 1) / n nats.

    Exact where no two answers have the same reward and none is probable by itself; else the true value is smaller
    (2401.01879).
    """
    return math.log(draws) - (draws - 1) / draws


def _batch(sequences: list[tuple[Sequence[int], Sequence[int]]], policy: nn.Module, reference: nn.Module) -> np.ndarray:
    device = next(policy.parameters()).device
    width = max(sum(map(len, sequence)) for sequence in sequences)
    ids_BT = torch.zeros(len(sequences), width, dtype=torch.long)
    mask_BT, predicts_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT)
    for row, (prompt, response) in enumerate(sequences):
        whole = [*prompt, *response]
        ids_BT[row, : len(whole)] = torch.tensor(whole)
        mask_BT[row, : len(whole)] = 1
        predicts_BT[row, len(prompt) - 1 : len(whole) - 1] = 1
    ids_BT, mask_BT, predicts_BT = (tensor.to(device) for tensor in (ids_BT, mask_BT, predicts_BT))

    def logps(model: nn.Module) -> Tensor:
        return model(input_ids=ids_BT, attention_mask=mask_BT).logits.float().log_softmax(dim=-1)

    own_BTV, other_BTV = logps(policy), logps(reference)
    kl_BT = (own_BTV.exp() * (own_BTV - other_BTV)).sum(dim=-1, dtype=torch.float64).clamp(min=0)
    return (kl_BT * predicts_BT).sum(dim=1).cpu().numpy()

"""KL of a policy from the supervised policy, exact where possible.

Legend: N tokens of responses, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seralign.policy.packing import pad_sequences

_LOGITS = 1 << 24


@torch.no_grad()
def response_kls(
    policy: nn.Module, reference: nn.Module, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """KL(policy, reference) at the positions of responses that were sampled from the policy at temperature 1.

    sum_t sum_v pi(v|x, y_<t) log(pi(v|x, y_<t) / pi_ref(v|x, y_<t)): the KL of the whole next-token
    distributions, not of the sampled tokens. Its mean over responses has the same expectation as the mean
    log-ratio, KL(pi, pi_ref), and less variance (Rao-Blackwell), and it is never negative.

    Args:
        policy: The policy that sampled the responses, in evaluation mode.
        reference: The other policy, with the same vocabulary.
        sequences: (prompt ids, response ids), no prompt empty.

    Returns:
        Nats, one number for each response.
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
    """KL between the best of n independent draws and the policy that they are drawn from: log n - (n - 1) / n nats.

    Exact if no two answers have the same reward and no single answer is likely; otherwise an upper bound (2401.01879).
    """
    return math.log(draws) - (draws - 1) / draws


def _batch(sequences: list[tuple[Sequence[int], Sequence[int]]], policy: nn.Module, reference: nn.Module) -> np.ndarray:
    device = next(policy.parameters()).device
    batch = {name: value.to(device) for name, value in pad_sequences(sequences).items()}

    def logps(model: nn.Module) -> Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return logits.flatten(0, 1)[batch["source"]].float().log_softmax(dim=-1)

    own_NV, other_NV = logps(policy), logps(reference)
    kl_N = (own_NV.exp() * (own_NV - other_NV)).sum(dim=-1, dtype=torch.float64).clamp(min=0)
    rows_N = torch.arange(len(sequences), device=device).repeat_interleave(batch["lengths"])
    return torch.zeros(len(sequences), dtype=torch.float64, device=device).index_add_(0, rows_N, kl_N).cpu().numpy()

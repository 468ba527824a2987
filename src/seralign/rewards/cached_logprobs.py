"""Responses under a policy: log-probabilities through the cache, margins through the objective."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seralign import distributed
from seralign.errors import ModelError
from seralign.objectives import Objective
from seralign.policy.abilities import abilities
from seralign.policy.load import mixed_precision
from seralign.policy.logprobs import response_logps
from seralign.policy.machine import computed_with
from seralign.policy.packing import make_batch
from seralign.progress import bar
from seralign.rewards.responses import Responses
from seralign.runs.cache import LogpCache


@dataclass(frozen=True)
class ScoringPolicy:
    """A policy to score with. ``load`` is called only when the cache lacks something.

    ``digest`` is its weights'; ``weights`` the data type that they are loaded in, ``precision`` that of the forward
    pass, ``attention`` the implementation of attention as the configuration names it (``default``: the model's own
    choice, which its configuration and the versions decide).
    """

    name: str
    digest: str
    load: Callable[[], nn.Module]
    weights: str = "float32"
    precision: str = "float32"
    attention: str = "default"

    @property
    def key(self) -> str:
        """The policy's name in the cache: all that a log-probability depends on beside the tokens.

        Another library or another device rounds differently: its numbers are close, but not the same to the last bit,
        which step 0 of training needs.
        """
        return ":".join((self.digest, self.weights, self.precision, self.attention, computed_with()))


def logps(
    responses: Responses,
    packs: Sequence[np.ndarray],
    policy: ScoringPolicy,
    cache: LogpCache | None,
    *,
    exact: bool = False,
) -> np.ndarray:
    """Log-probabilities [N] in nats of responses under a policy, NaN for those that no pack has or has an equal of.

    What the cache has is not computed again. A pack is always computed whole and as given, also where only some of
    it is missing, and stored at once: a killed scoring resumes with the same packs and ends with the same numbers.
    Equal responses to the same prompt have one value, the first that is computed, as they have one place in the cache.

    Args:
        responses: What to score.
        packs: Numbers of responses that go through the model together. Only these responses are computed, and asked
            of the cache.
        policy: Whom to score with.
        cache: The cache, in the main process.
        exact: Take from the cache only what was computed in the very same pack, to the last bit.

    Raises:
        ModelError: a log-probability is not finite.
    """
    asked = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *packs]))
    keys, policy_key = responses.keys, policy.key
    names = _keys_in_packs(keys, packs) if exact else keys
    place = _first_of_equal(names, asked)
    values = np.full(len(names), np.nan)
    if cache is not None:
        values[asked] = cache.get(policy_key, [names[number] for number in asked])
    values = distributed.broadcast(values)
    todo = [pack for pack in packs if np.isnan(values[place[pack]]).any()]
    if not todo:
        return values[place]
    model = policy.load().eval()
    with bar(f"log-probabilities, {policy.name}", sum(map(len, todo)), "response") as line:
        for start in range(0, len(todo), distributed.world_size()):
            together = todo[start : start + distributed.world_size()]
            own = together[distributed.rank()] if distributed.rank() < len(together) else None
            found = distributed.gather(None if own is None else forward(model, responses, own, policy))
            for pack, scores in zip(together, found, strict=False):
                if scores is None or not np.isfinite(scores).all():
                    raise ModelError(f"{policy.name}: log-probabilities that are not finite; the model is broken")
                missing = np.isnan(values[place[pack]])
                filled, first = np.unique(place[pack][missing], return_index=True)
                values[filled] = scores[missing][first]
                if cache is not None:
                    cache.put(policy_key, [keys[number] for number in filled], values[filled])
                    if exact:
                        cache.put(policy_key, [names[number] for number in filled], values[filled])
                line.advance(len(pack))
    return values[place]


def known_logps(
    responses: Responses, packs: Sequence[np.ndarray], policy: ScoringPolicy, cache: LogpCache | None
) -> np.ndarray | None:
    """Log-probabilities [N] of responses that were computed in these very packs before; None where one was not."""
    found = None
    if cache is not None:
        values = cache.get(policy.key, _keys_in_packs(responses.keys, packs))
        found = None if np.isnan(values).any() else values
    return distributed.broadcast(found)


def keep_logps(
    responses: Responses,
    packs: Sequence[np.ndarray],
    policy: ScoringPolicy,
    cache: LogpCache | None,
    values: np.ndarray,
) -> None:
    """Store log-probabilities [N] that training computed in these packs, as ``logps`` would have; none that is not
    finite."""
    if cache is None or not np.isfinite(values).all():
        return
    for keys in (responses.keys, _keys_in_packs(responses.keys, packs)):
        cache.put(policy.key, keys, values)


def forward(
    model: nn.Module,
    responses: Responses,
    pack: np.ndarray,
    policy: ScoringPolicy,
    compute: Callable[..., Tensor] = response_logps,
) -> np.ndarray:
    """What ``compute`` finds for the responses of one pack, without gradients and in the policy's precision.

    Args:
        model: The policy, loaded.
        responses: Of which the pack is some.
        pack: Their numbers.
        policy: Whose precision counts.
        compute: Takes the model and what ``make_batch`` made of the pack.
    """
    device = next(model.parameters()).device
    made = make_batch(responses.sequences(pack), abilities(model).longest)
    batch = {name: value.to(device) for name, value in made.items()}
    with torch.no_grad(), mixed_precision(policy.precision, device):
        return compute(model, **batch).double().cpu().numpy()


def scores(objective: Objective, policy: np.ndarray, reference: np.ndarray | None, lengths: np.ndarray) -> np.ndarray:
    """Implicit rewards without beta [N], in nats, of responses from their log-probabilities and lengths [N]."""
    return np.asarray(objective.reward(policy, reference, lengths), dtype=np.float64)


def _keys_in_packs(keys: Sequence[bytes], packs: Sequence[np.ndarray]) -> list[bytes]:
    """Identity [N] of each response together with everything in its pack."""
    found = list(keys)
    for pack in packs:
        company = hashlib.blake2b(b"".join(keys[number] for number in pack), digest_size=16)
        for number in pack:
            digest = company.copy()
            digest.update(keys[number])
            found[number] = digest.digest()
    return found


def _first_of_equal(keys: Sequence[bytes], asked: np.ndarray) -> np.ndarray:
    """[N] for each number the first of ``asked`` that has the same key; itself where there is none."""
    first: dict[bytes, int] = {}
    for number in asked.tolist():
        first.setdefault(keys[number], number)
    return np.array([first.get(key, number) for number, key in enumerate(keys)], dtype=np.int64)

"""Log-probabilities of responses under a policy, from the cache where possible, and rewards from them."""

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
from seralign.policy.heads import LANGUAGE_MODEL, REWARD, Head
from seralign.policy.load import mixed_precision
from seralign.policy.machine import computed_with
from seralign.policy.memory import Halving
from seralign.policy.packing import make_batch
from seralign.policy.release import trim
from seralign.progress import bar
from seralign.rewards.responses import Responses
from seralign.runs.cache import LogpCache, made_keys, numbered_keys


@dataclass(frozen=True)
class ScoringPolicy:
    """A policy to score with. ``load`` is called only if the cache lacks something.

    ``digest`` identifies the weights. ``weights`` is the data type that they are loaded in, ``precision`` that of the
    forward pass. ``attention`` is the attention implementation in the configuration; ``default`` is the model's own
    choice, which depends on its configuration and on library versions. ``head``: what it says of a response; with that
    of a reward model, the functions of this module give rewards in place of log-probabilities. ``divided``: whether
    ``load`` divides it over the processes.
    """

    name: str
    digest: str
    load: Callable[[], nn.Module]
    weights: str = "float32"
    precision: str = "float32"
    attention: str = "default"
    head: Head = LANGUAGE_MODEL
    divided: bool = False

    @property
    def key(self) -> str:
        """The policy's key in the cache: everything besides tokens that a log-probability depends on.

        Other libraries and devices round differently. Their numbers are close, but step 0 of training needs the same
        numbers to the last bit.
        """
        more = () if self.head is LANGUAGE_MODEL else (self.head.name,)
        # In mixed precision, a divided model has activations of fewer bits than autocast leaves.
        more += ("divided",) if self.divided and self.precision != "float32" else ()
        return ":".join((self.digest, self.weights, self.precision, self.attention, computed_with(), *more))

    @property
    def values(self) -> str:
        """What the head gives, for messages."""
        return "rewards" if self.head is REWARD else "log-probabilities"


def logps(
    responses: Responses,
    packs: Sequence[np.ndarray],
    policy: ScoringPolicy,
    cache: LogpCache | None,
    *,
    exact: bool = False,
) -> np.ndarray:
    """Log-probabilities [N] in nats of responses under a policy; NaN for a response if no pack has it or an
    equal one.

    Cached values are not computed again. A pack with missing values is computed whole and stored at once, so a killed
    scoring resumes with the same packs and gives the same numbers. Equal responses to the same prompt share one value,
    the first that is computed.

    Args:
        responses: What to score.
        packs: Numbers of the responses in each forward pass. Only these responses are looked up and computed.
        policy: The policy to score with.
        cache: The cache, in the main process.
        exact: Use only cached values from exactly the same pack, so that they are equal to the last bit. Where memory
            is not enough for a pack, its values are those of its halves, and not stored as exact ones.

    Raises:
        ModelError: a log-probability is not finite.
        Exception: memory is not enough for one response.
    """
    asked = np.unique(np.concatenate([np.zeros(0, dtype=np.int32), *packs]))
    keys, policy_key = responses.keys, policy.key
    names = _keys_in_packs(keys, packs) if exact else keys
    place = _first_of_equal(names, asked)
    values = np.full(len(names), np.nan)
    if cache is not None:
        values[asked] = cache.get(policy_key, names[asked])
    values = distributed.broadcast(values)
    todo = [pack for pack in packs if np.isnan(values[place[pack]]).any()]
    if not todo:
        return values[place]
    trim()  # what planning has freed, which the C library would keep as long as the model works
    model = policy.load().eval()
    halving = Halving[np.ndarray](
        "the number of responses in a forward pass", lambda pack: int(responses.whole_lengths[pack].sum())
    )

    def computed(pack: np.ndarray) -> tuple[np.ndarray, bool]:
        if policy.divided:  # every process must run the model equally often
            return forward(model, responses, pack, policy), True
        parts = halving.run(pack, lambda part: forward(model, responses, part, policy))
        return np.concatenate(parts), len(parts) == 1

    with bar(f"{policy.values}, {policy.name}", sum(map(len, todo)), "response") as line:
        for start in range(0, len(todo), distributed.world_size()):
            together = todo[start : start + distributed.world_size()]
            # Where there are fewer packs than processes, some do the same: a divided model needs all of them.
            own = together[min(distributed.rank(), len(together) - 1)]
            found = distributed.gather(computed(own))
            for pack, (scores, whole) in zip(together, found, strict=False):
                if not np.isfinite(scores).all():
                    raise ModelError(f"{policy.name}: {policy.values} that are not finite; the model is broken")
                missing = np.isnan(values[place[pack]])
                filled, first = np.unique(place[pack][missing], return_index=True)
                values[filled] = scores[missing][first]
                if cache is not None:
                    cache.put(policy_key, keys[filled], values[filled])
                    if exact and whole:
                        cache.put(policy_key, names[filled], values[filled])
                line.advance(len(pack))
    trim()  # what the model has freed
    return values[place]


def known_logps(
    responses: Responses, packs: Sequence[np.ndarray], policy: ScoringPolicy, cache: LogpCache | None
) -> np.ndarray | None:
    """Log-probabilities [N] of responses, if all were computed before in exactly these packs; else None."""
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
    """Store log-probabilities [N] that training computed in these packs; nothing if one is not finite."""
    if cache is None or not np.isfinite(values).all():
        return
    for keys in (responses.keys, _keys_in_packs(responses.keys, packs)):
        cache.put(policy.key, keys, values)


def forward(
    model: nn.Module,
    responses: Responses,
    pack: np.ndarray,
    policy: ScoringPolicy,
    compute: Callable[..., Tensor] | None = None,
) -> np.ndarray:
    """Apply ``compute`` to the responses of one pack, without gradients and in the policy's precision.

    Args:
        model: The loaded policy.
        responses: All responses.
        pack: Numbers of the pack's responses.
        policy: Gives the precision.
        compute: Called with the model and the output of ``make_batch``. Default: the values of the policy's head.
    """
    device = next(model.parameters()).device
    made = make_batch(responses.sequences(pack), abilities(model).longest)
    batch = {name: value.to(device) for name, value in made.items()}
    with torch.no_grad(), mixed_precision(policy.precision, model):
        return (compute or policy.head.values)(model, **batch).double().cpu().numpy()


def scores(objective: Objective, policy: np.ndarray, reference: np.ndarray | None, lengths: np.ndarray) -> np.ndarray:
    """Implicit rewards without beta [N], in nats, from log-probabilities and lengths of responses [N]."""
    return np.asarray(objective.reward(policy, reference, lengths), dtype=np.float64)


def _keys_in_packs(keys: np.ndarray, packs: Sequence[np.ndarray]) -> np.ndarray:
    """Key [N] of each response together with all responses of its pack."""
    found = keys.copy()
    for pack in packs:
        company = hashlib.blake2b(keys[pack].tobytes(), digest_size=16)
        found[pack] = made_keys(_continued(company, key) for key in keys[pack].tolist())
    return found


def _continued(digest: hashlib.blake2b, key: bytes) -> bytes:
    both = digest.copy()
    both.update(key)
    return both.digest()


def _first_of_equal(keys: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[N] for each number the first of ``asked``, which increase, with the same key; itself if there is none."""
    different, first_use = numbered_keys(keys)
    first = np.full(len(first_use), -1, dtype=np.int32)
    # Of several assignments to a place the last one stays.
    first[different[asked[::-1]]] = asked[::-1]
    found = first[different]
    alone = np.flatnonzero(found < 0)
    found[alone] = alone
    return found

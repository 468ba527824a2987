"""Responses under a policy: log-probabilities through the cache, margins through the objective."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from torch import nn

from seralign import distributed
from seralign.cache import LogpCache, response_key
from seralign.errors import ModelError
from seralign.objectives import Objective
from seralign.policy.load import mixed_precision
from seralign.policy.logprobs import pad_sequences, response_logps
from seralign.progress import bar

_READ = 1000


@dataclass(frozen=True)
class Responses:
    """The responses in columns of a table, numbered column by column: row r of column c is ``c * rows + r``.

    ``table`` has ``prompt_ids`` and the named columns of response ids; nothing is held in memory but their lengths.
    """

    table: datasets.Dataset
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table) * len(self.columns)

    def sequences(self, numbers: np.ndarray) -> list[tuple[list[int], list[int]]]:
        """(prompt ids, response ids) of the numbered responses."""
        found = []
        for column in range(len(self.columns)):
            mine = np.flatnonzero(numbers // len(self.table) == column)
            if len(mine):
                rows = self.table[(numbers[mine] % len(self.table)).tolist()]
                pairs = zip(rows["prompt_ids"], rows[self.columns[column]], strict=True)
                found += list(zip(mine.tolist(), pairs, strict=True))
        return [sequence for _, sequence in sorted(found, key=lambda item: item[0])]

    def keys(self) -> list[bytes]:
        """Identity of every response to its prompt, in order of number."""
        return [
            response_key(prompt, response)
            for column in self.columns
            for rows in _batches(self.table.select_columns(["prompt_ids", column]))
            for prompt, response in zip(rows["prompt_ids"], rows[column], strict=True)
        ]

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each response [N], and of each with its prompt [N]."""
        responses, whole = [], []
        for column in self.columns:
            for rows in _batches(self.table.select_columns(["prompt_ids", column])):
                responses += [len(ids) for ids in rows[column]]
                whole += [len(a) + len(b) for a, b in zip(rows["prompt_ids"], rows[column], strict=True)]
        return np.array(responses, dtype=np.int64), np.array(whole, dtype=np.int64)


@dataclass(frozen=True)
class ScoringPolicy:
    """A policy to score with. ``load`` is called only when the cache lacks something.

    ``digest`` is its weights'; ``weights`` the data type that they are loaded in, ``precision`` that of the forward
    pass: together they are what a log-probability depends on.
    """

    name: str
    digest: str
    load: Callable[[], nn.Module]
    weights: str = "float32"
    precision: str = "float32"

    @property
    def key(self) -> str:
        """The policy's name in the cache."""
        return f"{self.digest}:{self.weights}:{self.precision}"


def logps(
    responses: Responses,
    packs: Sequence[np.ndarray],
    policy: ScoringPolicy,
    cache: LogpCache | None,
    *,
    exact: bool = False,
) -> np.ndarray:
    """Log-probabilities [N] in nats of responses under a policy.

    What the cache has is not computed again. A pack is always computed whole and as given, also where only some of
    it is missing, and stored at once: a killed scoring goes on with the same packs and ends with the same numbers.
    Equal responses to the same prompt have one value, the first that is computed, as they have one place in the cache.

    Args:
        responses: What to score.
        packs: Numbers of responses that go through the model together; they cover every response.
        policy: Whom to score with.
        cache: The cache, in the main process.
        exact: Take from the cache only what was computed in the very same pack, to the last bit.

    Raises:
        ModelError: a log-probability is not finite.
    """
    keys = responses.keys()
    names = _keys_in_packs(keys, packs) if exact else keys
    place = _first_of_equal(names)
    values = np.full(len(names), np.nan) if cache is None else cache.get(policy.key, names)
    values = distributed.broadcast(values)
    todo = [pack for pack in packs if np.isnan(values[place[pack]]).any()]
    if not todo:
        return values
    model = policy.load().eval()
    with bar(f"log-probabilities, {policy.name}", sum(map(len, todo)), "response") as line:
        for start in range(0, len(todo), distributed.world_size()):
            together = todo[start : start + distributed.world_size()]
            own = together[distributed.rank()] if distributed.rank() < len(together) else None
            found = distributed.gather(None if own is None else _forward(model, responses, own, policy))
            for pack, scores in zip(together, found, strict=False):
                if scores is None or not np.isfinite(scores).all():
                    raise ModelError(f"{policy.name}: log-probabilities that are not finite; the model is broken")
                missing = np.isnan(values[place[pack]])
                filled, first = np.unique(place[pack][missing], return_index=True)
                values[filled] = scores[missing][first]
                if cache is not None:
                    cache.put(policy.key, [keys[number] for number in filled], values[filled])
                    if exact:
                        cache.put(policy.key, [names[number] for number in filled], values[filled])
                line.advance(len(pack))
    return values[place]


def scores(objective: Objective, policy: np.ndarray, reference: np.ndarray | None, lengths: np.ndarray) -> np.ndarray:
    """Implicit rewards without beta [N], in nats, of responses from their log-probabilities and lengths [N]."""
    return np.asarray(objective.score(policy, reference, lengths), dtype=np.float64)


def _forward(model: nn.Module, responses: Responses, pack: np.ndarray, policy: ScoringPolicy) -> np.ndarray:
    device = next(model.parameters()).device
    batch = {name: value.to(device) for name, value in pad_sequences(responses.sequences(pack)).items()}
    with torch.no_grad(), mixed_precision(policy.precision, device):
        return response_logps(model, **batch).double().cpu().numpy()


def _keys_in_packs(keys: Sequence[bytes], packs: Sequence[np.ndarray]) -> list[bytes]:
    """Identity [N] of each response together with everything in its pack."""
    found = list(keys)
    for pack in packs:
        company = b"".join(keys[number] for number in pack)
        for number in pack:
            found[number] = hashlib.blake2b(company + keys[number], digest_size=16).digest()
    return found


def _first_of_equal(keys: Sequence[bytes]) -> np.ndarray:
    """[N] the first number that has the same key."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(key, number) for number, key in enumerate(keys)], dtype=np.int64)


def _batches(table: datasets.Dataset) -> Iterator[dict[str, list[list[int]]]]:
    for start in range(0, len(table), _READ):
        yield table[start : start + _READ]

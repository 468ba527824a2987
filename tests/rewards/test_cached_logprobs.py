"""Scoring through the cache: numbered responses, nothing computed twice, the same numbers after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from seralign.errors import ModelError
from seralign.objectives import DPO, SimPO
from seralign.rewards.cached_logprobs import ScoringPolicy, logps, scores
from seralign.rewards.responses import Responses, plan_scoring
from seralign.runs.cache import LogpCache, response_key


class Uneven(nn.Module):
    """Logits that depend on the width of the batch, as rounding makes them do; it can fail at a given pass."""

    def __init__(self, fail_at: int | None = None, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))
        self.passes = 0
        self.fail_at = fail_at

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Any:
        self.passes += 1
        if self.passes == self.fail_at:
            raise KeyboardInterrupt
        rows, width = input_ids.shape
        logits = torch.zeros(rows, width, len(tiny.VOCABULARY)) + self.weight
        logits[..., ::2] += 1e-3 * width + 1e-4 * rows
        return SimpleNamespace(logits=logits)


def never() -> nn.Module:
    raise AssertionError("the model was loaded")


def policy_of(model: nn.Module, **precision: str) -> ScoringPolicy:
    return ScoringPolicy("policy", "digest", lambda: model, **precision)


def two_columns(count: int = 20, seed: int = 0) -> Responses:
    return Responses(tiny.pairs_table(count, seed))


def with_repetitions() -> Responses:
    """Twelve responses of which only four are different, as samples of a sure policy are."""
    rows = [
        ([3, 4], [5]),
        ([3], [6, 7, 0]),
        ([3, 4], [5]),
        ([8, 9, 10], [5, 5, 5, 5, 5, 0]),
        ([3, 4], [5]),
        ([3, 4], [6]),
    ]
    return Responses(tiny.examples_table([(prompt, [response]) for prompt, response in rows * 2]))


def packs_of(responses: Responses, size: int, seed: int = 1) -> list[np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(responses))
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[LogpCache]:
    opened = LogpCache(tmp_path / "logps.sqlite")
    yield opened
    opened.close()


def test_responses_are_numbered_place_by_place() -> None:
    responses = Responses(tiny.examples_table([([1], [[3], [5, 5]]), ([2, 2], [[4], [6, 6, 6]])]))
    assert len(responses) == 4
    assert responses.sequences(np.arange(4)) == [([1], [3]), ([2, 2], [4]), ([1], [5, 5]), ([2, 2], [6, 6, 6])]
    assert responses.sequences(np.array([3, 0, 3])) == [([2, 2], [6, 6, 6]), ([1], [3]), ([2, 2], [6, 6, 6])]
    assert responses.lengths.tolist() == [1, 1, 2, 3]
    assert responses.whole_lengths.tolist() == [2, 3, 3, 5]
    first = Responses(responses.table, "first")
    assert first.sequences(np.arange(len(first))) == [([1], [3]), ([2, 2], [4])]


RAGGED = [
    ([1], [[3]]),
    ([2, 2], [[4], [6, 6, 6], [7, 8]]),
    ([3], [[5, 5], [6]]),
]


def test_examples_may_have_different_numbers_of_responses() -> None:
    """Place by place: 0, 1, 2; then 1, 2; then 1."""
    responses = Responses(tiny.examples_table(RAGGED))
    wanted = [([1], [3]), ([2, 2], [4]), ([3], [5, 5]), ([2, 2], [6, 6, 6]), ([3], [6]), ([2, 2], [7, 8])]
    assert responses.sequences(np.arange(6)) == wanted
    assert responses.sequences(np.array([5, 2, 3])) == [wanted[5], wanted[2], wanted[3]]
    assert responses.keys.tolist() == [response_key(*pair) for pair in wanted]
    assert responses.lengths.tolist() == [1, 1, 2, 3, 1, 2]
    assert responses.whole_lengths.tolist() == [2, 3, 3, 5, 2, 4]
    assert responses.prompts.tolist() == [0, 1, 2, 1, 2, 1]
    assert responses.numbering.of_rows(np.array([2, 1])).tolist() == [2, 1, 4, 3, 5]
    moved = Responses(responses.table.select([2, 0, 1]))
    assert moved.sequences(np.arange(6)) == [wanted[2], wanted[0], wanted[1], wanted[4], wanted[3], wanted[5]]
    assert moved.keys.tolist() == [response_key(*pair) for pair in moved.sequences(np.arange(6))]


@pytest.mark.parametrize("rows", [RAGGED, RAGGED[1:2] * 2, RAGGED[:1], RAGGED[2:]])
def test_ragged_responses_packed_together_have_the_values_of_one_at_a_time(rows: list, cache: LogpCache) -> None:
    model = tiny.make_model()
    responses = Responses(tiny.examples_table(rows))
    found = logps(responses, plan_scoring(responses, 100, 100), policy_of(model), cache)
    exact = tiny.make_model().double()
    with torch.no_grad():
        wanted = [float(tiny.reference_logp(exact, *pair)) for pair in responses.sequences(np.arange(len(responses)))]
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-6)


def test_keys_and_lengths_are_those_of_the_lists_in_a_long_table() -> None:
    """More rows than are read at once, also of a table that only points into another."""
    table = tiny.pairs_table(10_100)
    for part in (table, table.select(np.random.default_rng(0).permutation(10_100)[:10_050]), table.select([])):
        responses = Responses(part)
        rows = list(zip(part["prompt_ids"], part["response_ids"], strict=True))
        pairs = [(prompt, ids[place]) for place in (0, 1) for prompt, ids in rows]
        assert len(responses) == len(pairs)
        assert responses.keys.tolist() == [response_key(prompt, response) for prompt, response in pairs]
        assert responses.lengths.tolist() == [len(response) for _, response in pairs]
        assert responses.whole_lengths.tolist() == [len(prompt) + len(response) for prompt, response in pairs]


def test_a_key_does_not_depend_on_the_width_of_the_numbers() -> None:
    narrow = tiny.examples_table([([1, 2], [[3, 70000]])])
    wide = datasets.Dataset.from_dict({name: narrow[name][:] for name in ("prompt_ids", "response_ids")})
    assert narrow.data.table.schema != wide.data.table.schema
    assert Responses(narrow).keys.tolist() == Responses(wide).keys.tolist() == [response_key([1, 2], [3, 70000])]


def test_values_are_those_of_an_independent_computation_in_order(cache: LogpCache) -> None:
    model = tiny.make_model()
    responses = two_columns(10)
    found = logps(responses, packs_of(responses, 6), policy_of(model), cache)
    exact = tiny.make_model().double()
    with torch.no_grad():
        wanted = [float(tiny.reference_logp(exact, *pair)) for pair in responses.sequences(np.arange(20))]
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-6)


def test_what_the_cache_has_is_not_computed_and_the_model_not_loaded(cache: LogpCache) -> None:
    responses = two_columns()
    packs = packs_of(responses, 7)
    first = logps(responses, packs, policy_of(Uneven()), cache)
    again = logps(responses, packs_of(responses, 3, seed=2), ScoringPolicy("other name", "digest", never), cache)
    assert np.array_equal(first, again)
    assert (cache.hits, cache.misses) == (40, 40)


@pytest.mark.parametrize(
    "other",
    [
        ScoringPolicy("policy", "other digest", never),
        ScoringPolicy("policy", "digest", never, weights="bfloat16"),
        ScoringPolicy("policy", "digest", never, precision="bfloat16"),
        ScoringPolicy("policy", "digest", never, attention="eager"),
    ],
)
def test_another_policy_precision_or_attention_shares_nothing(other: ScoringPolicy, cache: LogpCache) -> None:
    responses = two_columns()
    packs = packs_of(responses, 7)
    logps(responses, packs, policy_of(Uneven()), cache)
    with pytest.raises(AssertionError, match="loaded"):
        logps(responses, packs, other, cache)


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        ("torch", "__version__", "1.0"),
        ("transformers", "__version__", "1.0"),
        ("torch.backends.cpu", "get_cpu_capability", lambda: "abacus"),
    ],
)
def test_another_library_or_device_shares_nothing(
    owner: str, name: str, value: Any, cache: LogpCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = two_columns()
    packs = packs_of(responses, 7)
    logps(responses, packs, policy_of(Uneven()), cache)
    monkeypatch.setattr(f"{owner}.{name}", value)
    with pytest.raises(AssertionError, match="loaded"):
        logps(responses, packs, ScoringPolicy("policy", "digest", never), cache)


def test_a_gpu_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seralign.policy.machine.PartialState", lambda: SimpleNamespace(device=torch.device("cuda:1")))
    keys = set()
    for name in ("H200", "A100"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: f"{name} of {device}")
        keys.add(policy_of(Uneven()).key)
    assert len(keys) == 2
    assert any("cuda H200 of cuda:1" in key for key in keys)


@pytest.mark.parametrize("exact", [False, True])
def test_responses_in_no_pack_are_neither_computed_nor_asked_for(exact: bool, cache: LogpCache) -> None:
    """Numbers 0, 2 and 4 are equal and asked for; 3 is asked for, and 1 and 5, which equal it, are not; nor is 6.

    Equal responses have one value; the value in a certain pack is that of no other.
    """
    table = tiny.examples_table([([1], [ids]) for ids in [[3], [4, 4]] * 3 + [[5]]])
    responses = Responses(table)
    packs = [np.array([3, 2]), np.array([4, 0])]
    found = logps(responses, packs, policy_of(Uneven()), cache, exact=exact)
    assert np.isnan(found).tolist() == [False, exact, False, False, False, exact, True]
    assert (cache.hits, cache.misses) == (0, 4)
    again = logps(responses, packs, ScoringPolicy("policy", "digest", never), cache, exact=exact)
    np.testing.assert_array_equal(again, found)
    assert (cache.hits, cache.misses) == (4, 4)


def test_only_packs_that_lack_something_are_computed(cache: LogpCache) -> None:
    responses = two_columns()
    packs = packs_of(responses, 8)
    known = [1, 3]
    sequences = [sequence for pack in known for sequence in responses.sequences(packs[pack])]
    half = Responses(tiny.examples_table([(prompt, [response]) for prompt, response in sequences]))
    before = logps(half, [np.arange(16)], policy_of(Uneven()), cache)
    model = Uneven()
    found = logps(responses, packs, policy_of(model), cache)
    assert model.passes == 3
    assert np.array_equal(found[np.concatenate([packs[pack] for pack in known])], before)


@pytest.mark.parametrize("fail_at", range(1, 6))
@pytest.mark.parametrize("responses", [two_columns(), with_repetitions()], ids=["different", "repeated"])
def test_interrupted_scoring_ends_with_the_same_bits(responses: Responses, fail_at: int, tmp_path: Path) -> None:
    """The model's values depend on the pack, so any other pack or order would show."""
    packs = packs_of(responses, 2 if len(responses) == 12 else 7)
    whole = LogpCache(tmp_path / "whole.sqlite")
    wanted = logps(responses, packs, policy_of(Uneven()), whole)
    killed = LogpCache(tmp_path / "killed.sqlite")
    with pytest.raises(KeyboardInterrupt):
        logps(responses, packs, policy_of(Uneven(fail_at)), killed)
    killed.close()
    resumed = LogpCache(tmp_path / "killed.sqlite")
    model = Uneven()
    assert np.array_equal(logps(responses, packs, policy_of(model), resumed), wanted)
    assert model.passes <= len(packs) - (fail_at - 1)
    assert np.array_equal(logps(responses, packs, ScoringPolicy("", "digest", never), whole), wanted)
    whole.close()
    resumed.close()


def test_equal_responses_have_equal_values(cache: LogpCache) -> None:
    responses = with_repetitions()
    found = logps(responses, packs_of(responses, 2), policy_of(Uneven()), cache)
    for same in ([0, 2, 4, 6, 8, 10], [1, 7], [3, 9], [5, 11]):
        assert len(set(found[same])) == 1
    assert len(set(found)) == 4


def test_exact_numbers_come_from_the_very_same_packs(cache: LogpCache) -> None:
    responses = with_repetitions()
    packs = packs_of(responses, 2)
    logps(responses, packs_of(responses, 5, seed=7), policy_of(Uneven()), cache)
    model = Uneven()
    found = logps(responses, packs, policy_of(model), cache, exact=True)
    assert model.passes == len(packs)
    again = logps(responses, packs, policy_of(None), cache, exact=True)
    assert np.array_equal(again, found), "a scoring that is taken up again has what it had"
    for pack in packs:
        alone = logps(responses, [*[pack], np.arange(12)], policy_of(Uneven()), None)
        assert np.array_equal(found[pack], alone[pack])
    assert len(set(found[[0, 2, 4, 6, 8, 10]])) > 1


def test_without_a_cache_every_pack_is_computed() -> None:
    responses = two_columns()
    model = Uneven()
    logps(responses, packs_of(responses, 7), policy_of(model), None)
    assert model.passes == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_model_is_an_error_and_leaves_nothing_in_the_cache(value: float, cache: LogpCache) -> None:
    responses = two_columns()
    with pytest.raises(ModelError, match="policy: log-probabilities that are not finite"):
        logps(responses, packs_of(responses, 7), policy_of(Uneven(value=value)), cache)
    assert np.isnan(cache.get(policy_of(Uneven()).key, responses.keys)).all()


def test_bfloat16_forward_pass_differs_from_float32_and_is_close() -> None:
    responses = two_columns()
    model = tiny.make_model()
    packs = packs_of(responses, 8)
    exact = logps(responses, packs, policy_of(model), None)
    rounded = logps(responses, packs, policy_of(model, precision="bfloat16"), None)
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, rtol=0.1, atol=1.0)


def test_scores_by_hand() -> None:
    """dpo: log-ratio. simpo: log-probability per token, no reference."""
    policy, reference, lengths = np.array([-10.0, -6.0]), np.array([-12.0, -5.0]), np.array([5, 2])
    assert scores(DPO(0.1), policy, reference, lengths).tolist() == [2.0, -1.0]
    assert scores(SimPO(2.0), policy, None, lengths).tolist() == [-2.0, -3.0]

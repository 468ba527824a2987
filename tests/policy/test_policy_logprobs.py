"""``response_logps`` against an independent float64 computation, TRL, and itself in other batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from trl.trainer.utils import selective_log_softmax

from seralign.policy import forward
from seralign.policy.abilities import abilities
from seralign.policy.head import linear_logps
from seralign.policy.logprobs import response_logps, response_token_logps
from seralign.policy.packing import pack_sequences, pad_sequences

SEQUENCES = tiny.make_sequences(24)


def in_batches(model: nn.Module, sequences: list[tiny.Sequence_], size: int) -> np.ndarray:
    """[N] log-probabilities, ``size`` sequences a forward pass."""
    with torch.no_grad():
        parts = [
            response_logps(model, **pad_sequences(sequences[start : start + size]))
            for start in range(0, len(sequences), size)
        ]
    return torch.cat(parts).numpy()


class FullLogits(nn.Module):
    """A model that cannot be asked for the last logits alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_equals_an_independent_float64_computation(name: str) -> None:
    model = tiny.make_model(name)
    found = in_batches(model, SEQUENCES, 8)
    exact = tiny.make_model(name).double()
    with torch.no_grad():
        wanted = np.array([float(tiny.reference_logp(exact, *sequence)) for sequence in SEQUENCES])
    assert wanted.std() > 1.0
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "gemma2"])  # the last has soft-capped logits
@pytest.mark.parametrize("make", [pack_sequences, pad_sequences])
@pytest.mark.parametrize("own_head", [False, True])
def test_collisions_of_tokens_are_those_of_the_whole_distribution(
    name: str, make: Callable[..., dict[str, Tensor]], own_head: bool
) -> None:
    """The log-probabilities and their gradient stay as they are, and the second column is log sum p^2."""
    model = tiny.make_model(name)
    batch = make(SEQUENCES[:6])
    lengths = batch.pop("lengths")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seralign.policy.logprobs.abilities", lambda model: replace(abilities(model), own_head=own_head))
        plain = response_token_logps(model, **batch)
        found = response_token_logps(model, **batch, collisions=True)
    torch.testing.assert_close(found[:, 0], plain)
    gradients = [torch.autograd.grad(logps.sum(), next(iter(model.parameters())))[0] for logps in (plain, found[:, 0])]
    torch.testing.assert_close(gradients[1], gradients[0])
    parts = found[:, 1].detach().split(lengths.tolist())
    for (prompt, response), part in zip(SEQUENCES[:6], parts, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].double()
        expected = torch.softmax(logits, dim=1).square().sum(dim=1).log()
        torch.testing.assert_close(part.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_batch_mates_order_and_padding_change_no_value_and_no_ranking(name: str, size: int) -> None:
    model = tiny.make_model(name)
    chosen = tiny.make_sequences(200, seed=1)
    rejected = [(prompt, other) for (prompt, _), (_, other) in zip(chosen, tiny.make_sequences(200, 2), strict=True)]
    both = chosen + rejected
    alone = in_batches(model, both, 400)
    order = np.random.default_rng(3).permutation(len(both))
    shuffled = np.empty(len(both))
    shuffled[order] = in_batches(model, [both[number] for number in order], size)
    np.testing.assert_allclose(shuffled, alone, atol=1e-5, rtol=1e-6)
    ranking = np.argsort(alone[:200] - alone[200:])
    assert np.array_equal(np.argsort(shuffled[:200] - shuffled[200:]), ranking)


def test_only_response_tokens_count() -> None:
    """log p(b c | a) is log p(b | a) + log p(c | a b): the prompt's own tokens add nothing."""
    model = tiny.make_model()
    whole, first, second = in_batches(model, [([5, 6], [7, 8]), ([5, 6], [7]), ([5, 6, 7], [8])], 3)
    assert whole == pytest.approx(first + second, abs=1e-5)
    assert whole != pytest.approx(in_batches(model, [([5], [6, 7, 8])], 1)[0], abs=0.1)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_the_padding_token_may_be_any_token(name: str) -> None:
    model = tiny.make_model(name)
    batch = pad_sequences(SEQUENCES)
    padding = batch["attention_mask"] == 0
    assert padding.any()
    with torch.no_grad():
        wanted = response_logps(model, **batch)
        for token in (tiny.EOS, tiny.PAD, 17):
            other = batch | {"input_ids": batch["input_ids"].masked_fill(padding, token)}
            torch.testing.assert_close(response_logps(model, **other), wanted, atol=1e-6, rtol=0)


def test_masks_follow_lengths_where_pad_and_eos_stand_in_the_text() -> None:
    batch = pad_sequences([([tiny.PAD, 9], [tiny.EOS, tiny.PAD, tiny.EOS]), ([0], [0])])
    assert batch["input_ids"].tolist() == [[1, 9, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch["source"].tolist() == [1, 2, 3, 5]
    assert batch["target"].tolist() == [0, 1, 0, 0]
    assert batch["lengths"].tolist() == [3, 1]


def test_an_empty_response_has_log_probability_zero_beside_others() -> None:
    model = tiny.make_model()
    found = in_batches(model, [([3, 4], []), ([3, 4], [5])], 2)
    assert found[0] == 0.0
    assert found[1] == pytest.approx(float(tiny.reference_logp(model, [3, 4], [5]).detach()), abs=1e-5)


def test_a_response_that_nothing_precedes_is_refused() -> None:
    with pytest.raises(ValueError, match="a prompt is empty; a response needs at least one token before it"):
        response_logps(tiny.make_model(), **pad_sequences([([], [5, 6])]))


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_last_logits_alone_give_what_full_logits_give(name: str) -> None:
    model = tiny.make_model(name)
    sequences = [(prompt * 2, response) for prompt, response in SEQUENCES]
    np.testing.assert_allclose(
        in_batches(model, sequences, 8), in_batches(FullLogits(model), sequences, 8), atol=1e-5, rtol=1e-6
    )


@pytest.mark.parametrize("make", [pad_sequences, pack_sequences])
def test_the_output_layer_sees_nothing_but_what_predicts_response_tokens(
    make: Callable[..., dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of 20 tokens, responses of 3, 1 and 0: four hidden states."""
    model = tiny.make_model()
    prompt = list(range(3, 23))
    seen: list[tuple[int, ...]] = []

    def spy(layer: nn.Linear, hidden: Tensor, *given: Any) -> Tensor:
        seen.append(tuple(hidden.shape))
        return linear_logps(layer, hidden, *given)

    abilities(model)
    monkeypatch.setattr(forward, "linear_logps", spy)
    response_logps(model, **make([(prompt, [5, 6, 7]), (prompt, [5]), (prompt, [])]))
    assert seen == [(4, 32)]


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_gradient_equals_that_of_an_independent_implementation(name: str) -> None:
    weights = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64)
    model = tiny.make_model(name)
    (response_logps(model, **pad_sequences(SEQUENCES[:8])) * weights).sum().backward()
    exact = tiny.make_model(name).double()
    logps = torch.stack([tiny.reference_logp(exact, *sequence) for sequence in SEQUENCES[:8]])
    (logps * weights).sum().backward()
    wanted = dict(exact.named_parameters())
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        gradient = wanted[parameter_name].grad
        assert gradient is not None
        scale = float(gradient.abs().max())
        # A key bias shifts all scores of a query alike: its true gradient is zero.
        assert scale > 1e-3 or "k_proj.bias" in parameter_name, parameter_name
        torch.testing.assert_close(parameter.grad.double(), gradient, atol=1e-4 * max(scale, 1.0), rtol=1e-3)


def test_equals_trl_for_the_same_input() -> None:
    model = tiny.make_model()
    batch = pad_sequences(SEQUENCES)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        per_token = selective_log_softmax(logits[:, :-1], batch["input_ids"][:, 1:])
        is_response = torch.arange(batch["input_ids"].shape[1]) >= torch.tensor([[len(p)] for p, _ in SEQUENCES])
        wanted = (per_token * (is_response & batch["attention_mask"].bool())[:, 1:]).sum(dim=1)
        torch.testing.assert_close(response_logps(model, **batch).float(), wanted, atol=2e-5, rtol=1e-5)


def test_bfloat16_weights_give_float64_sums_of_float32_terms() -> None:
    """Terms are taken in float32: the sum is not one of bfloat16's few values, and is near the float32 model's."""
    model = tiny.make_model().bfloat16()
    found = in_batches(model, SEQUENCES, 8)
    assert found.dtype == np.float64
    assert not np.array_equal(found, torch.tensor(found).bfloat16().double().numpy())
    np.testing.assert_allclose(found, in_batches(tiny.make_model(), SEQUENCES, 8), rtol=0.1, atol=1.0)


def test_a_long_response_keeps_its_digits() -> None:
    """512 equal terms of log(1/48) under a model of zeros: a float32 running sum would be off by more than 1e-5."""
    model = tiny.make_model(max_position_embeddings=1024)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (found,) = in_batches(model, [([5], [6] * 512)], 1)
    term = float(torch.tensor(0.0) - torch.zeros(48).logsumexp(0))
    assert found == pytest.approx(512 * term, abs=1e-9)
    assert found == pytest.approx(-512 * np.log(48), abs=1e-4)

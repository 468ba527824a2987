"""The chunked output layer against plain logits in float64, and what it holds at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from seralign.policy import head
from seralign.policy.head import linear_logps, module_logps

TOKENS, WIDTH, VOCABULARY = 301, 8, 1000
CHUNK = 20_000  # elements: 20 tokens


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


# 301 tokens are 15 chunks of 20 and one of 1, which would fit where a whole one does not.
@pytest.fixture(autouse=True, params=[0, int(2.5 * CHUNK), 1000 * CHUNK], ids=["none kept", "some kept", "all kept"])
def _small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seralign.policy.head._KEPT", {"cpu": request.param})
    monkeypatch.setattr("seralign.policy.head._CHUNK", {"cpu": CHUNK, "cuda": CHUNK})
    monkeypatch.setattr("seralign.policy.head._SLICE", {"cpu": CHUNK // 4, "cuda": CHUNK})


def inputs(bias: bool) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Linear(WIDTH, VOCABULARY, bias=bias)
        hidden = (2 * torch.randn(TOKENS, WIDTH)).requires_grad_()
        targets = torch.randint(0, VOCABULARY, (TOKENS,))
        targets[:3] = torch.tensor([0, VOCABULARY - 1, targets[3]])
        return layer, hidden, targets, torch.randn(TOKENS)


def plain(layer: nn.Linear, hidden: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    logits = layer(hidden)
    logits = logits if cap is None else cap * (logits / cap).tanh()
    return logits.log_softmax(dim=1)[torch.arange(TOKENS), targets]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("way", ["linear", "module"])
def test_values_and_gradients_are_those_of_plain_logits(bias: bool, cap: float | None, way: str) -> None:
    layer, hidden, targets, weights = inputs(bias)
    found = (
        linear_logps(layer, hidden, targets, cap)
        if way == "linear"
        else module_logps(layer.forward, VOCABULARY, hidden, targets, cap)
    )
    (found * weights).sum().backward()

    exact, exact_hidden = nn.Linear(WIDTH, VOCABULARY, bias=bias).double(), hidden.detach().double().requires_grad_()
    exact.load_state_dict(layer.state_dict())
    wanted = plain(exact, exact_hidden, targets, cap)
    (wanted * weights.double()).sum().backward()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    for one, two in [(hidden, exact_hidden), *zip(layer.parameters(), exact.parameters(), strict=True)]:
        assert one.grad is not None
        assert two.grad is not None
        torch.testing.assert_close(one.grad.double(), two.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["linear", "module"])
def test_no_more_than_a_chunk_of_logits_and_what_is_kept_is_held(way: str) -> None:
    """301 tokens times 1,000 words would be 301,000 elements; the weights are 8,000."""
    layer, hidden, targets, weights = inputs(bias=True)
    with Largest() as seen:
        found = (
            linear_logps(layer, hidden, targets)
            if way == "linear"
            else module_logps(layer.forward, VOCABULARY, hidden, targets)
        )
        (found * weights).sum().backward()
    kept = head._KEPT["cpu"] if way == "linear" else 0
    assert 0 < seen.elements <= max(CHUNK, min(kept, TOKENS * VOCABULARY))


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    layer, hidden, targets, weights = inputs(bias=False)
    loss = (linear_logps(layer, hidden, targets) * weights).sum()
    loss.backward(retain_graph=True)
    assert hidden.grad is not None
    first = hidden.grad.clone()
    loss.backward()
    torch.testing.assert_close(hidden.grad, 2 * first)


def test_only_wanted_gradients_are_made() -> None:
    layer, hidden, targets, weights = inputs(bias=True)
    layer.requires_grad_(False)
    (linear_logps(layer, hidden, targets) * weights).sum().backward()
    alone = hidden.detach().clone().requires_grad_()
    (plain(layer, alone, targets, None) * weights).sum().backward()
    torch.testing.assert_close(hidden.grad, alone.grad, rtol=1e-4, atol=1e-5)
    assert layer.weight.grad is None
    assert layer.bias.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_computes_products_in_its_own_type_and_sums_in_float32(dtype: torch.dtype) -> None:
    """Under autocast the result is that of weights and hidden states rounded to bfloat16, and no worse."""
    layer, hidden, targets, weights = inputs(bias=False)
    layer, hidden = layer.to(dtype), hidden.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_logps(layer, hidden, targets)
    (found * weights).sum().backward()
    rounded, low = nn.Linear(WIDTH, VOCABULARY, bias=False).double(), hidden.detach().bfloat16().double()
    rounded.weight.data = layer.weight.detach().bfloat16().double()
    wanted = plain(rounded, low.requires_grad_(), targets, None)
    (wanted * weights.double()).sum().backward()
    assert found.dtype == torch.float32
    # A bfloat16 logit of size 8 is off by at most 1/64.
    assert float((found - wanted).detach().abs().max()) < 1 / 32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == dtype
    assert rounded.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad.double(), rounded.weight.grad, rtol=0.1, atol=0.1)


def test_nothing_is_kept_where_gradients_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights ask for a gradient, as those of a model that is scored do."""
    seen: list[tuple[bool, ...]] = []
    forward = head._LinearLogps.forward
    monkeypatch.setattr(
        head._LinearLogps,
        "forward",
        staticmethod(lambda ctx, *given: (seen.append(ctx.needs_input_grad[:2]), forward(ctx, *given))[1]),
    )
    layer, hidden, targets, _ = inputs(bias=True)
    with torch.no_grad():
        linear_logps(layer, hidden, targets)
    linear_logps(layer, hidden, targets)
    assert seen == [(False, False), (True, True)]

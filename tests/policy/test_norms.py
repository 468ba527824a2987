"""Norms in one step against transformers' own layers and float64, and which layers are left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny import make_model
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated

from seralign.policy.norms import fuse_norms, rms_norm

WIDTH = 24
EPSILON = 1e-3


def layer(dtype: torch.dtype = torch.float32) -> LlamaRMSNorm:
    norm = LlamaRMSNorm(WIDTH, eps=EPSILON)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, WIDTH))
    return norm.to(dtype)


def rows(dtype: torch.dtype = torch.float32) -> Tensor:
    return (3 * torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))).to(dtype)


def test_value_by_hand() -> None:
    """Mean square of (1, 7) is 25, so with epsilon 0 the row over its root is (0.2, 1.4); weights (3, -1)."""
    found = rms_norm(torch.tensor([[1.0, 7.0]]), torch.tensor([3.0, -1.0]), 0.0)
    torch.testing.assert_close(found, torch.tensor([[0.6, -1.4]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradient_are_those_of_the_layer(dtype: torch.dtype) -> None:
    """The gradient is compared with float64's, and may be no further from it than the layer's own, and a rounding."""
    exact, theirs, ours = layer(torch.float64), layer(dtype), layer(dtype)
    # transformers' layer computes in float32 whatever it is given.
    inputs = [rows(kind).requires_grad_() for kind in (torch.float64, dtype, dtype)]
    x = inputs[0]
    wanted = exact.weight * x / (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt()
    assert fuse_norms(ours) == 1
    found = [wanted, theirs(inputs[1]), ours(inputs[2])]
    upstream = rows(dtype).flip(0)
    for out in found:
        out.backward(upstream.to(out.dtype))
    rounding = torch.finfo(dtype).eps
    assert found[2].dtype == dtype
    torch.testing.assert_close(found[2], found[1], rtol=rounding, atol=rounding)
    for names in [tuple(inputs), (exact.weight, theirs.weight, ours.weight)]:
        true, own, fused = (tensor.grad.double() for tensor in names if tensor.grad is not None)
        size = true.abs().max()
        assert (fused - true).abs().max() <= (own - true).abs().max() + rounding * size


def test_under_autocast_the_output_has_its_type_and_gradients_that_of_the_input() -> None:
    norm, x = layer(), rows().requires_grad_()
    fuse_norms(norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = norm(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, layer()(rows()).bfloat16(), rtol=2**-8, atol=0)
    found.sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert x.grad.dtype == norm.weight.grad.dtype == torch.float32


def test_it_keeps_its_input_and_a_number_a_token() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    x = rows().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rms_norm(x, layer().weight, EPSILON)
    assert sorted(kept) == sorted([x.numel(), WIDTH, x.numel() // WIDTH])


class _Shifted(nn.Module):
    """Adds one: what it computes is something else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))
        self.eps = EPSILON

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.weight * hidden_states + 1


class _TwoInputs(_Shifted):
    def forward(self, hidden_states: Tensor, gate: Tensor) -> Tensor:
        return self.weight * hidden_states * gate


@pytest.mark.parametrize("other", [GemmaRMSNorm(WIDTH), _Shifted(), _TwoInputs(), nn.LayerNorm(WIDTH), nn.Linear(2, 2)])
def test_layers_that_compute_something_else_are_left_alone(other: nn.Module) -> None:
    assert fuse_norms(other) == 0
    assert "forward" not in vars(other)


def test_a_forward_pass_that_somebody_replaced_stays() -> None:
    norm = layer()
    replaced = norm.forward = norm.forward
    assert fuse_norms(norm) == 0
    assert norm.forward is replaced


def test_a_copy_computes_with_its_own_weights() -> None:
    """PEFT copies modules that are saved whole."""
    norm = layer()
    fuse_norms(norm)
    other: Any = copy.deepcopy(norm)
    with torch.no_grad():
        other.weight.zero_()
    assert other(rows()).abs().max() == 0
    assert norm(rows()).abs().max() > 0


@pytest.mark.parametrize(
    ("name", "count"), [("llama", 5), ("qwen3", 9), ("mistral", 5), ("phi3", 5), ("gemma2", 0), ("gpt2", 0)]
)
def test_norms_of_real_architectures(name: str, count: int) -> None:
    """Two layers with two norms each and a last one; qwen3 also norms queries and keys."""
    model = make_model(name)
    ids = torch.arange(1, 9)[None]
    before = model(ids).logits
    assert fuse_norms(model) == count
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-5)


def test_a_norm_that_also_takes_a_gate_is_left_alone() -> None:
    """Without its gate, which may be left out, it computes what a plain norm does."""
    norm = MambaRMSNormGated(WIDTH, group_size=WIDTH, eps=EPSILON)
    before = norm(rows(), rows().flip(0))
    assert fuse_norms(nn.ModuleList([norm, layer()])) == 1
    torch.testing.assert_close(norm(rows(), rows().flip(0)), before, rtol=0, atol=0)

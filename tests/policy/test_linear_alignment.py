"""Linear Alignment: logits by hand, plain sampling at step 0, and full forward passes in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from seralign.errors import ModelError
from seralign.policy import decoding
from seralign.policy.draws import draw, uniforms
from seralign.policy.identity import PolicySource
from seralign.policy.linear_alignment import aligned_logits
from seralign.policy.sampling import SamplingParams, sample, sample_aligned
from seralign.policy.ways import check_shared
from seralign.records import Prompt

END = frozenset({tiny.EOS})
WITH = ([5, 9, 4, 7, 3], [8, 6, 3])
WITHOUT = ([4, 7, 3], [6, 3])


def _prompts(ids: tuple[list[int], ...] = WITH) -> list[Prompt]:
    return [Prompt(f"p{at}", "", tuple(each)) for at, each in enumerate(ids)]


def test_one_step_by_hand() -> None:
    with_, without = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2.0, 2.0, 0.0]])
    assert aligned_logits(with_, without, 2.0, 1.0, 1.0).tolist() == [[2.0, -1.0, 0.0]]
    # Softmax of (2, -1, 0): e^2 + e^-1 + 1 = 8.756936 in all.
    found = aligned_logits(with_, without, 2.0, 1.0, 1.0).softmax(1)[0]
    assert found.tolist() == pytest.approx([0.843795, 0.042010, 0.114195], abs=1e-6)
    # As the ratio of both distributions: p (p / p0)^2, scaled to 1. Constants that the logits differ by do not matter.
    p, p0 = with_.double().softmax(1), (without.double() + 3.0).softmax(1)
    ratio = p * (p / p0) ** 2
    assert found.tolist() == pytest.approx((ratio / ratio.sum())[0].tolist(), abs=1e-6)


def test_unlikely_tokens_with_the_principle_stay_out_whatever_the_step() -> None:
    # Softmax of (2, 1, 0) is .665, .245, .090: the nucleus of .9 is the first two.
    with_, without = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2.0, 2.0, -9.0]])
    assert aligned_logits(with_, without, 3.0, 1.0, 0.9).tolist() == [[2.0, -2.0, -torch.inf]]
    # At temperature 0.25 the first has .98 alone; at 0 the nucleus is that of temperature 1.
    assert aligned_logits(with_, without, 3.0, 0.25, 0.9).tolist() == [[2.0, -torch.inf, -torch.inf]]
    assert aligned_logits(with_, without, 3.0, 0.0, 0.9).tolist() == [[2.0, -2.0, -torch.inf]]
    # A token that both rule out is none that the step can bring back.
    ruled_out = torch.tensor([[1.0, -torch.inf]])
    assert aligned_logits(ruled_out, ruled_out, 2.0, 1.0, 1.0).tolist() == [[1.0, -torch.inf]]


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4),
    st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4),
    st.floats(0, 4, width=32),
)
def test_a_longer_step_never_makes_the_direction_less_likely(one: list[float], other: list[float], step: float) -> None:
    with_, without = torch.tensor([one], dtype=torch.float64), torch.tensor([other], dtype=torch.float64)
    direction = with_ - without
    mean = [
        float((aligned_logits(with_, without, size, 1.0, 1.0).softmax(1) * direction).sum())
        for size in (step, step + 0.5)
    ]
    assert mean[1] >= mean[0] - 1e-9


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.8), (0.0, 1.0)])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_step_of_zero_is_plain_sampling_with_the_principle(
    saved: Callable[[str], PolicySource], name: str, temperature: float, top_p: float
) -> None:
    model, tokenizer = tiny.make_model(name), tiny.make_tokenizer()
    params = SamplingParams(1 if temperature == 0 else 4, temperature, top_p, 8)
    plain = sample(model, tokenizer, _prompts(), params, END, seed=3)
    assert sample_aligned(model, tokenizer, _prompts(), WITHOUT, 0.0, params, END, seed=3) == plain
    assert sample_aligned(model, tokenizer, _prompts(), WITHOUT, 2.0, params, END, seed=3) != plain


@pytest.mark.parametrize(("step", "top_p"), [(0.5, 1.0), (2.0, 0.8)])
def test_samples_are_those_of_full_forward_passes_in_float64(
    monkeypatch: pytest.MonkeyPatch, step: float, top_p: float
) -> None:
    # Rows leave the batch at different steps, and are sampled two at a time.
    model, tokenizer = tiny.make_model("llama").double(), tiny.make_tokenizer()
    params = SamplingParams(5, 0.9, top_p, 10)
    monkeypatch.setattr(decoding, "CACHE_BYTES", 40_000)
    ends = frozenset(range(0, 48, 6))
    found = sample_aligned(model, tokenizer, _prompts(), WITHOUT, step, params, ends, seed=7)
    numbers = uniforms(7, ["p0", "p1"], 5, 10)
    lengths = set()
    for row, candidate in enumerate(found):
        ids: list[int] = []
        for at in range(10):
            both = [torch.tensor([[*own[row // 5], *ids]]) for own in (WITH, WITHOUT)]
            with torch.no_grad():
                one, other = (model(each).logits[0, -1] for each in both)
            p = (one / 0.9).softmax(0)
            order = p.argsort(descending=True)
            kept = order[p[order].cumsum(0) - p[order] < top_p]
            logits = torch.full_like(one, -torch.inf)
            logits[kept] = (1 + step) * one[kept] - step * other[kept]
            ids.append(int(draw(logits[None], numbers[row, at : at + 1], 0.9, 1.0)))
            if ids[-1] in ends:
                break
        assert candidate.ids == tuple(ids)
        lengths.add(len(ids))
    assert len(lengths) > 1


def test_a_model_without_a_shared_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from seralign.policy import ways

    model = tiny.make_model("llama", seed=5)
    check_shared(model, "--principle")
    other = tiny.make_model("llama", seed=6)
    monkeypatch.setattr(ways, "why_not_shared", lambda model: "its cache holds more than keys and values")
    with pytest.raises(ModelError, match=r"^--principle: responses of LlamaForCausalLM cannot be sampled from a cache"):
        check_shared(other, "--principle")


def test_logits_that_are_not_finite_are_an_error() -> None:
    model, tokenizer = tiny.make_model("llama"), tiny.make_tokenizer()
    check_shared(model, "--principle")
    with torch.no_grad():
        model.get_output_embeddings().weight[4] = torch.nan  # pyright: ignore
    with pytest.raises(ModelError, match="not finite"):
        sample_aligned(model, tokenizer, _prompts(), WITHOUT, 1.0, SamplingParams(1, 1.0, 1.0, 4), END, seed=0)

"""Packed rows give what padded rows and single sequences give: values, gradients, in every architecture that has them.

The independent reference is one unpadded sequence at a time through the model's own attention and logits, in float64.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from seralign.errors import ModelError
from seralign.policy import attention
from seralign.policy.abilities import abilities
from seralign.policy.attention import block_mask, packed_attention
from seralign.policy.logprobs import response_logps
from seralign.policy.packing import make_batch, pack_sequences, pad_sequences
from seralign.policy.quiet import quiet_transformers
from seralign.progress import say_once

PACKED = ("llama", "llama-tied", "qwen2", "qwen3", "mistral-full", "gemma", "gemma2", "gemma3", "phi", "phi3", "gpt2")
PROMPTS = [[5, 6, 7, 8], [9, 3], [4] * 11]
# Prompts with three, one and two responses, out of order; one response is empty, one is its prompt again.
SEQUENCES: list[tiny.Sequence_] = [
    (PROMPTS[0], [11, 12, 0]),
    (PROMPTS[2], [13] * 7),
    (PROMPTS[0], []),
    (PROMPTS[1], [14, 0]),
    (PROMPTS[0], PROMPTS[0]),
    (PROMPTS[2], [15, 16, 17, 18]),
]
NO_DROPOUT = dict.fromkeys(("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
WEIGHTS = torch.linspace(-1.0, 1.0, len(SEQUENCES), dtype=torch.float64)


def adapted(name: str) -> nn.Module:
    """A model with a LoRA adapter that changes its output, on the output layer too."""
    with quiet_transformers(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
        torch.manual_seed(1)
        model = get_peft_model(
            tiny.make_model(name, **NO_DROPOUT), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "lm_head"])
        )
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                nn.init.normal_(parameter, std=0.3)
    return model


def checkpoint_activations(model: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def single(model: nn.Module) -> Tensor:
    """[R] one sequence at a time."""
    return torch.stack([tiny.reference_logp(model, *sequence) for sequence in SEQUENCES])


def gradients(model: nn.Module, logps: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (logps * WEIGHTS).sum().backward()
    return {
        name: parameter.grad.double().clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], relative: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    # A bias of keys shifts all scores of a query alike: its true gradient is zero, and small against the others.
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        scale = max(float(gradient.abs().max()), 1e-2 * largest)
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=relative * scale, msg=name)


def test_a_packed_row_by_hand() -> None:
    """Prompt [5, 6] with responses [7, 8] and [9], prompt [4] with [3]; positions go on from the prompt."""
    batch = pack_sequences([([5, 6], [7, 8]), ([4], [3]), ([5, 6], [9])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert batch["attention_mask"].tolist() == [[[[2, 0], [2, 1], [1, 1], [2, 0]]]]
    assert batch["source"].tolist() == [1, 2, 5, 1]
    assert batch["target"].tolist() == [7, 8, 3, 9]
    assert batch["lengths"].tolist() == [2, 1, 1]


def test_a_response_sees_its_prompt_and_itself_alone() -> None:
    """The mask of FlexAttention, written out for the row of the test above."""
    layout = pack_sequences([([5, 6], [7, 8]), ([4], [3]), ([5, 6], [9])])["attention_mask"]
    mask = block_mask(layout, torch.device("cpu"))
    places = torch.arange(7)
    found = [[int(mask.mask_mod(q, q, q, k)) for k in places] for q in places]
    assert found == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


Groups = list[tuple[int, list[int]]]
GROUPS = st.lists(
    st.tuples(st.integers(1, 300), st.lists(st.integers(0, 200), min_size=1, max_size=4)), min_size=1, max_size=4
)


def packed_groups(groups: Groups) -> tuple[Tensor, Tensor]:
    """The layout of prompts and responses of these lengths, and the dense mask [T, T] by the definition: a token sees
    the tokens before it that are of its prompt or of its own response."""
    sequences: list[tiny.Sequence_] = []
    owners: list[tuple[int, int]] = []  # of each token: its prompt, and its response or -1
    for number, (length, responses) in enumerate(groups):
        prompt = [number] * length  # all prompts and responses differ
        parts = [[*range(100 + at, 100 + at + size)] for at, size in enumerate(responses)]
        distinct = [list(part) for part in dict.fromkeys(map(tuple, parts))]
        sequences += [(prompt, part) for part in distinct]
        owners += [(number, -1)] * length
        owners += [(number, at) for at, part in enumerate(distinct) for _ in part]
    group, part = torch.tensor(owners).unbind(1)
    same = (part[:, None] == part) | (part == -1)
    return pack_sequences(sequences)["attention_mask"], ((group[:, None] == group) & same).tril()


@settings(max_examples=25, deadline=None)
@given(GROUPS)
def test_the_block_mask_of_a_gpu_is_the_dense_mask(groups: Groups) -> None:
    """Its function, and its blocks of 128 tokens: none is left out that has something to see, and only a block that is
    seen as a whole is computed without the function."""
    layout, dense = packed_groups(groups)
    mask = block_mask(layout, torch.device("cpu"))
    size = len(dense)
    places = torch.arange(size)
    zero = torch.tensor(0)
    assert torch.equal(mask.mask_mod(zero, zero, places[:, None], places[None]), dense)
    width = -(-size // 128)
    assert mask.BLOCK_SIZE == (128, 128)
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_indices is not None
    partly, wholly = (
        {(row, int(at)) for row in range(width) for at in indices[0, 0, row, : int(counts[0, 0, row])]}
        for counts, indices in (
            (mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices),
        )
    )  # fmt: skip
    blocks = functional.pad(dense, (0, 128 * width - size) * 2).view(width, 128, width, 128)
    seen = {(int(row), int(at)) for row, at in blocks.any(3).any(1).nonzero()}
    assert partly | wholly == seen
    assert not partly & wholly
    assert all(blocks[row, :, at].all() for row, at in wholly)


@settings(max_examples=25, deadline=None)
@given(GROUPS, st.sampled_from([1, 4]))
def test_the_blocks_of_a_processor_are_the_dense_mask(groups: Groups, heads: int) -> None:
    layout, dense = packed_groups(groups)
    size = len(dense)
    counts = torch.zeros(size + 1, size + 1, dtype=torch.int64)
    for bucket in attention._buckets(tuple(map(tuple, layout[0, 0].tolist())), heads):
        visible = torch.ones(*bucket.queries.shape, bucket.keys.shape[1], dtype=torch.bool)
        visible[..., bucket.clear :] = ~bucket.hidden
        q, k = bucket.queries[..., None].expand_as(visible), bucket.keys[:, None].expand_as(visible)
        counts.index_put_((q[visible], k[visible]), torch.tensor(1), accumulate=True)
    assert torch.equal(counts[:size, :size], dense.long())  # each pair of tokens once
    assert not counts[:size, size].any()  # no token sees padding


@pytest.mark.parametrize(("key_heads", "cap"), [(4, None), (2, 3.0)])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_gives_the_values_of_the_segments(
    key_heads: int, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch of a GPU, with FlexAttention as torch computes it without its kernels."""
    monkeypatch.setattr(
        "transformers.integrations.flex_attention.compile_friendly_flex_attention",
        lambda q, k, v, training, **options: flex_attention(q, k, v, **options),
    )
    layout, dense = packed_groups([(140, [5, 9]), (3, [4]), (20, [1, 150, 0])])
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, len(dense), 16, generator=random) for heads in (4, key_heads, key_heads))
    layer = nn.Module()
    options: dict[str, Any] = {"scaling": 0.3, "softcap": cap}
    by_blocks, _ = packed_attention(layer, q, k, v, block_mask(layout, q.device), **options)
    by_segments, _ = packed_attention(layer, q, k, v, layout, **options)
    torch.testing.assert_close(by_blocks, by_segments, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PACKED)
def test_values_and_gradients_are_those_of_single_sequences(name: str) -> None:
    exact = tiny.make_model(name).double()
    wanted = single(exact)
    model = tiny.make_model(name)
    assert abilities(model).longest >= 18
    assert not abilities(model).own_head
    wanted_gradients = gradients(exact, wanted)
    for make in (pack_sequences, pad_sequences):
        found = response_logps(model, **make(SEQUENCES))
        np.testing.assert_allclose(found.detach(), wanted.detach(), rtol=1e-5, atol=1e-5)
        assert_same(gradients(model, found), wanted_gradients, 2e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "qwen3"])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    model = tiny.make_model(name, **NO_DROPOUT).train()
    wanted = gradients(model, response_logps(model, **pack_sequences(SEQUENCES)))
    checkpoint_activations(model)
    found = gradients(model, response_logps(model, **pack_sequences(SEQUENCES)))
    for key, gradient in wanted.items():
        assert torch.equal(found[key], gradient), key


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gemma2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_an_adapter_on_attention_and_output_layer(name: str, checkpointing: bool) -> None:
    exact, model = adapted(name).double(), adapted(name)
    wanted = single(exact)
    if checkpointing:
        checkpoint_activations(model)
        model.enable_input_require_grads()
        model.train()
    found = response_logps(model, **pack_sequences(SEQUENCES))
    np.testing.assert_allclose(found.detach(), wanted.detach(), rtol=1e-5, atol=1e-5)
    found_gradients = gradients(model, found)
    assert any("lm_head" in key for key in found_gradients)
    assert_same(found_gradients, gradients(exact, wanted), 2e-5)


@pytest.mark.parametrize("name", PACKED)
def test_bfloat16_differs_from_float32_as_padded_rows_do(name: str) -> None:
    """Under autocast; the packed row's error is of the size of the padded rows' error, over many sequences."""
    model = tiny.make_model(name)
    sequences = [(PROMPTS[number % 3], response) for number, (_, response) in enumerate(tiny.make_sequences(60))]
    with torch.no_grad():
        wanted = response_logps(model, **pad_sequences(sequences))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            packed = response_logps(model, **pack_sequences(sequences))
            padded = response_logps(model, **pad_sequences(sequences))
    error, plain_error = ((found - wanted).pow(2).mean().sqrt() for found in (packed, padded))
    assert plain_error > 1e-4
    assert error < 2 * plain_error


def test_a_change_in_one_response_changes_no_other_to_the_last_bit() -> None:
    model = tiny.make_model()
    with torch.no_grad():
        before = response_logps(model, **pack_sequences(SEQUENCES))
        other = [*SEQUENCES[:4], (PROMPTS[0], [20] * 4), SEQUENCES[5]]
        after = response_logps(model, **pack_sequences(other))
    assert (before != after).tolist() == [at == 4 for at in range(6)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=8), st.integers(0, 1000))
def test_any_lengths_longer_than_a_block_too(shapes: list[tuple[int, int]], seed: int) -> None:
    """Blocks of 16 queries, and probabilities kept for no more than 20 keys, so that every path is gone."""
    random = np.random.default_rng(seed)
    prompts = [random.integers(0, 48, size).tolist() for size in (1, 7, 23, 38)]
    sequences = [(prompts[which], random.integers(0, 48, length).tolist()) for which, length in shapes]
    model = _WIDE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seralign.policy.attention._BLOCK", 16)
        patch.setattr("seralign.policy.attention._KEEP", 20)
        patch.setattr("seralign.policy.attention._WASTE", 500)
        attention._blocks.cache_clear()
        attention._buckets.cache_clear()
        weights = torch.linspace(-1.0, 1.0, len(sequences), dtype=torch.float64)
        grads = []
        for make in (pack_sequences, pad_sequences):
            model.zero_grad()
            logps = response_logps(model, **make(sequences))
            (logps * weights).sum().backward()
            grads.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
            grads[-1].append(logps.detach())
    for packed, padded in zip(*grads, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-3, atol=2e-5 * max(1.0, float(padded.abs().max())))


_WIDE = tiny.make_model("llama", max_position_embeddings=128)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("falcon", "does not use transformers' attention interface"),
        ("falcon-alibi", "does not use transformers' attention interface"),
        ("bloom", "does not use transformers' attention interface"),
        ("mistral", None),
        ("lfm2", "unsupported type (conv)"),
    ],
)
def test_an_architecture_that_cannot_pack_says_so_and_is_right(
    name: str, why: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mistral's window is six tokens: longer sequences are padded, shorter ones packed."""
    say_once.cache_clear()
    model = tiny.make_model(name)
    able = abilities(model)
    said = capsys.readouterr().err.replace("\n", " ")
    if why is None:
        assert able.longest == 6
        assert said == ""
    else:
        assert able.longest == 0
        assert why in said
    abilities(tiny.make_model(name))
    assert capsys.readouterr().err == ""  # once
    batch = make_batch(SEQUENCES, able.longest)
    assert batch["attention_mask"].dim() == 2
    with torch.no_grad():
        found = response_logps(model, **batch)
        wanted = single(tiny.make_model(name).double())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_dropout_in_attention_is_refused_not_ignored() -> None:
    model = tiny.make_model("llama").train()
    assert model.config.attention_dropout > 0
    with pytest.raises(NotImplementedError, match="dropout"):
        response_logps(model, **pack_sequences(SEQUENCES))


def test_a_window_is_kept_where_packing_is_forced() -> None:
    model = tiny.make_model("mistral")
    with pytest.raises(ValueError, match="a packed row has a sequence of 18 tokens, and the model takes at most 6"):
        response_logps(model, **pack_sequences(SEQUENCES))
    with pytest.raises(ValueError, match="the model takes at most 0"):
        response_logps(tiny.make_model("falcon"), **pack_sequences(SEQUENCES))
    short = [([3, 4], [5, 6, 7]), ([3, 4], [8])]
    with torch.no_grad():
        packed, padded = (response_logps(model, **make(short)) for make in (pack_sequences, pad_sequences))
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["cohere", "granite"])
def test_logits_that_are_scaled_take_the_plain_output_layer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say_once.cache_clear()
    model = tiny.make_model(name)
    assert abilities(model).own_head
    assert "computed at once, not in chunks" in capsys.readouterr().err.replace("\n", " ")
    assert abilities(tiny.make_model(name).bfloat16()).own_head
    with torch.no_grad():
        found = response_logps(model, **pack_sequences(SEQUENCES))
    np.testing.assert_allclose(found, single(tiny.make_model(name).double()).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PACKED)
def test_rounding_to_bfloat16_is_not_taken_for_another_result(name: str) -> None:
    able = abilities(tiny.make_model(name).bfloat16())
    assert able.longest >= 18
    assert not able.own_head


def test_abilities_are_those_of_the_model_whatever_the_first_call_runs_in() -> None:
    model = tiny.make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert abilities(model).longest > 1000


def test_a_model_is_what_it_was_after_a_packed_row() -> None:
    """Its attention, its mode, its output layer; it generates, and so does its copy."""
    model = tiny.make_model("llama", **NO_DROPOUT).train()
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    response_logps(model, **pack_sequences(SEQUENCES)).sum().backward()
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert "forward" not in vars(model.lm_head)
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=0)
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] <= 5


def test_a_checkpointed_model_still_takes_plain_rows_and_so_does_its_copy() -> None:
    model = tiny.make_model("llama", **NO_DROPOUT)
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    checkpoint_activations(model)
    model.train()
    response_logps(model, **pack_sequences(SEQUENCES)).sum().backward()
    model.eval()
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-6)
    copied = copy.deepcopy(model)
    assert abilities(copied).longest > 1000
    assert abilities(copied).attention == "sdpa"


def test_a_forward_of_the_output_layers_own_is_called_and_kept() -> None:
    """As accelerate's hooks put one there."""
    model = tiny.make_model()
    wanted = single(model)
    called: list[int] = []
    plain = model.lm_head.forward

    def hooked(hidden: Tensor) -> Tensor:
        called.append(len(hidden))
        return plain(hidden)

    model.lm_head.forward = hooked
    found = response_logps(model, **pack_sequences(SEQUENCES))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert called
    assert vars(model.lm_head)["forward"] is hooked


def test_virtual_tokens_are_refused() -> None:
    with quiet_transformers():
        model = get_peft_model(tiny.make_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    for make in (pack_sequences, pad_sequences):
        with pytest.raises(ModelError, match="virtual tokens"):
            response_logps(model, **make(SEQUENCES))


def test_equal_responses_stand_once_and_have_one_value_to_the_last_bit() -> None:
    """In different blocks the same response may round differently; step 0 of training needs the same bits."""
    pairs = [([3, 4], [5, 6, 7]), ([3, 4], [8]), ([3, 4], [5, 6, 7]), ([9], [5, 6, 7])]
    batch = pack_sequences(pairs)
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6, 7, 8, 9, 5, 6, 7]]
    model = tiny.make_model()
    found = response_logps(model, **batch)
    assert found[0] == found[2]
    (2 * found[0] + found[2]).backward()
    twice = model.lm_head.weight.grad.clone()
    model.zero_grad()
    (3 * response_logps(model, **pad_sequences(pairs[:1]))).sum().backward()
    torch.testing.assert_close(twice, model.lm_head.weight.grad, rtol=1e-4, atol=1e-5)


def test_bfloat16_gradients_of_a_prompt_that_many_blocks_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt's gradient is a sum over 60 responses: as right as that of padded rows."""
    monkeypatch.setattr(attention, "_TOGETHER", 1)
    attention._buckets.cache_clear()
    prompt = [5, 6, 7, 8, 9]
    sequences = [(prompt, [10 + number % 30, number % 7]) for number in range(60)]

    def gradient(make: Any, precision: torch.dtype) -> Tensor:
        model = tiny.make_model("llama", **NO_DROPOUT)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            logps = response_logps(model, **make(sequences))
        logps.sum().backward()
        return model.model.layers[0].self_attn.k_proj.weight.grad

    wanted = gradient(pad_sequences, torch.float32)
    packed, padded = (gradient(make, torch.bfloat16) for make in (pack_sequences, pad_sequences))
    attention._buckets.cache_clear()
    assert float((padded - wanted).norm()) > 0
    assert float((packed - wanted).norm()) < 2 * float((padded - wanted).norm())


def test_a_saved_model_knows_nothing_of_packing(tmp_path: Any) -> None:
    model = tiny.make_model()
    response_logps(model, **pack_sequences(SEQUENCES))
    with quiet_transformers():
        model.save_pretrained(tmp_path)
    assert "seralign" not in (tmp_path / "config.json").read_text()


def test_gradients_do_not_depend_on_which_thread_is_first() -> None:
    model = tiny.make_model("llama", hidden_size=64)
    tokens = range(4, 40)
    sequences: list[tiny.Sequence_] = [(PROMPTS[0], [a, b]) for a in tokens for b in tokens]
    batch = pack_sequences(sequences)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = []
        for _ in range(6):
            model.zero_grad()
            response_logps(model, **batch).sum().backward()
            found.append(model.get_input_embeddings().weight.grad.clone())
    finally:
        torch.set_num_threads(threads)

    assert all(torch.equal(other, found[0]) for other in found[1:])

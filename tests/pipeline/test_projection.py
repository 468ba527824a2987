"""Plans for GPUs that are not here: sizes of models, work, memory and time against what is known or measured."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model
from small_run import small_config
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from seralign.config import LoraConfig, PolicyConfig, RunConfig, TrainingConfig, load_config
from seralign.data.table_columns import column_lengths, response_lengths
from seralign.errors import ConfigError, SeralignError
from seralign.pipeline.forecast.foreseen import Lengths
from seralign.pipeline.opening import carry_out_opening, opened_context
from seralign.pipeline.plan.workload import workload
from seralign.pipeline.projection import Projection, project_run
from seralign.pipeline.projection.architectures import ARCHITECTURES
from seralign.pipeline.projection.data import DataSizes, data_sizes
from seralign.pipeline.projection.devices import DEVICES, Device
from seralign.pipeline.projection.memory import Machine, layer_bytes, part_memory, states, training_memory
from seralign.pipeline.projection.parts import Part, Passes, Sampling
from seralign.pipeline.projection.shape import ModelShape, model_config, model_shape
from seralign.pipeline.projection.speed import Efficiency, part_flops, part_seconds
from seralign.pipeline.projection.work import run_work
from seralign.pipeline.start import started
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model, mixed_precision
from seralign.policy.logprobs import response_logps
from seralign.policy.norms import fuse_norms
from seralign.policy.packing import make_batch
from seralign.policy.quiet import quiet_transformers
from seralign.runs import Run

# Numbers of weights of the published models.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616, "llama-3-8b": 8_030_261_248, "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824, "tinyllama-1.1b": 1_100_048_384,
    "smollm2-135m": 134_515_008, "smollm2-1.7b": 1_711_376_384, "mistral-7b": 7_241_732_096,
    "qwen2.5-0.5b": 494_032_768, "qwen2.5-1.5b": 1_543_714_304, "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360, "gemma-2-2b": 2_614_341_888, "gemma-2-9b": 9_241_705_984,
    "phi-3-mini": 3_821_079_552, "pythia-1.4b": 1_414_647_808, "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
}  # fmt: skip
CPU = Device("cpu", 1e11, 1e18, 1e18, 1e18, 1e18, logits=8 * 2**20, kept=32 * 2**20, probabilities=True, foreach=False)
UNIT = Efficiency(mfu=1.0, bandwidth=1.0, link=1.0, launch=0.0)
SIZES = DataSizes(100, 10, 100, 50, 20, 30, 50)


def shape_of(name: str, lora: LoraConfig | None = None) -> ModelShape:
    return model_shape(model_config(PolicyConfig(model=name)), lora)


def config(**keys: Any) -> RunConfig:
    keys = {key.replace("__", "."): value for key, value in keys.items()}
    return load_config(None, {"out": "x", "policy.model": "llama-3.1-8b", "data.pairs.path": "p.jsonl"} | keys)


def test_known_architectures_have_the_published_numbers_of_weights() -> None:
    assert {name: shape_of(name).weights for name in ARCHITECTURES} == PUBLISHED


@pytest.mark.parametrize("name", ["llama-3.2-1b", "pythia-1.4b", "phi-3-mini"])
def test_parts_of_a_model_are_those_of_the_module(name: str) -> None:
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(model_config(PolicyConfig(model=name)))
    shape = shape_of(name, LoraConfig(r=8))
    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    assert shape.products == sum(part.weight.numel() for part in linear)
    with quiet_transformers():
        adapted = get_peft_model(model, PeftConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.lora == sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


# What differs: GPT-NeoX has one input for both norms of a layer; Gemma's norms are not ours.
@pytest.mark.parametrize(
    ("kind", "precision", "close"),
    [
        ("llama", "float32", 0.01),
        ("llama", "bfloat16", 0.01),
        ("gpt_neox", "bfloat16", 0.1),
        ("gemma2", "bfloat16", 0.06),
    ],
)
def test_activations_of_a_layer_are_what_autograd_keeps(kind: str, precision: str, close: float) -> None:
    saved, shapes = {}, {}
    for layers in (1, 3):
        settings = AutoConfig.for_model(
            kind, vocab_size=64, hidden_size=256, intermediate_size=768, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, head_dim=64, tie_word_embeddings=True,
        )  # fmt: skip
        shapes[layers] = model_shape(settings, None)
        saved[layers] = _kept_by_autograd(settings, precision)
    shape, s = shapes[1], 4 if precision == "float32" else 2
    tokens, keys = 512, 256
    copies = 0 if s == 4 else s * (shape.products - shape.head) / tokens
    expected = layer_bytes(shape, 4, s) + s * shape.heads * keys + copies
    assert (saved[3] - saved[1]) / 2 / tokens == pytest.approx(expected, rel=close)


def _kept_by_autograd(settings: Any, precision: str) -> int:
    """Bytes that autograd keeps for the backward pass over two sequences of 256 tokens, without the weights."""
    model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32).train()
    fuse_norms(model)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    sizes: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = make_batch([([5] * 200 + [start], [7] * 55) for start in (3, 4)], 2**31)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept)
    with hooks, mixed_precision(precision, model):
        response_logps(model, **batch)
    gc.collect()
    return sum(sizes.values())


def test_the_work_is_that_of_the_run(tmp_path: Path) -> None:
    given = small_config(tmp_path / "run", crossfit={"folds": 2, "keep": 0.8})
    with started(Run(tmp_path / "scratch"), given, None) as start:
        carry_out_opening(start)
        context = opened_context(start, "float32")
        tables = context.tables
        assert tables.demonstrations is not None
        shown = column_lengths(tables.demonstrations, "prompt_ids") + response_lengths(tables.demonstrations, 0)
        response = round(np.mean([response_lengths(tables.pairs, side).mean() for side in (0, 1)]))
        prompt = round(column_lengths(tables.pairs, "prompt_ids").mean())
        counts = len(tables.pairs), len(tables.heldout), len(tables.prompts), len(tables.demonstrations)
        sizes = DataSizes(*counts, prompt, response, round(shown.mean()))
        real = {work.name: work for work in workload(context, Lengths(response, 24), 2**62)}
        parts = run_work(context.config, sizes)
    tokens: defaultdict[str, float] = defaultdict(float)
    steps = {}
    for part in parts:
        tokens[part.stage] += part.work.total
        if isinstance(part.work, Passes) and part.work.steps:
            steps[part.stage] = part.work.steps
    assert {name: work.tokens for name, work in real.items() if work.tokens} == pytest.approx(tokens, rel=0.05)
    assert steps == {name: work.steps.count for name, work in real.items() if work.steps is not None}


PLAYED: dict[str, dict[str, Any]] = {
    "spin": {"bootstrap": {"prompts": 16, "max_new_tokens": 24, "batch_size": 8}},
    "sapo": {"bootstrap": {"prompts": 16, "max_new_tokens": 4, "batch_size": 8}},
    "online_dpo": {"bootstrap": {"prompts": 16, "max_new_tokens": 24, "batch_size": 8}},
}


@pytest.mark.parametrize("recipe", PLAYED)
def test_the_work_of_rounds_without_offline_pairs_is_that_of_the_run(tmp_path: Path, recipe: str) -> None:
    """Tokens within a tenth, since all rows are of mean length; of padded prompts that end within a response, within a
    quarter."""
    given = small_config(tmp_path / "run", recipe=recipe, sft=None, evaluation__baseline=False, **PLAYED[recipe])
    with started(Run(tmp_path / "scratch"), given, None) as start:
        carry_out_opening(start)
        context = opened_context(start, "float32")
        tables = context.tables
        shown = tables.pairs if tables.demonstrations is None else tables.demonstrations
        response = round(response_lengths(shown, 0).mean())
        prompt = round(column_lengths(shown, "prompt_ids").mean())
        counts = len(tables.pairs), len(tables.heldout), len(tables.prompts), len(shown)
        sizes = DataSizes(*counts, prompt, response, prompt + response)
        real = {work.name: work for work in workload(context, Lengths(response, 24), 2**62)}
        parts = [part for part in run_work(context.config, sizes) if part.stage.startswith("round-")]
    tokens: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        tokens[part.stage] += part.work.total
    wanted = {name: work.tokens for name, work in real.items() if work.tokens and name.startswith("round-")}
    assert wanted.keys() == tokens.keys()
    for name, count in wanted.items():
        assert count == pytest.approx(tokens[name], rel=0.25 if name.endswith("sample") else 0.1)


def test_sizes_of_prompts_and_demonstrations_alone_are_counted(tmp_path: Path) -> None:
    file, asked = tmp_path / "shown.jsonl", tmp_path / "asked.jsonl"
    file.write_text(('{"prompt": "' + "p" * 400 + '", "response": "' + "c" * 80 + '"}\n') * 20, encoding="utf-8")
    asked.write_text(('{"prompt": "' + "p" * 400 + '"}\n') * 50, encoding="utf-8")
    keys = {"data__pairs": None, "data__heldout_fraction": 0.1}
    found = data_sizes(config(recipe="spin", data__demonstrations={"path": str(file)}, **keys), {})
    assert found == DataSizes(0, 2, 18, 18, 100, 20, 120)
    online = config(recipe="online_dpo", data__prompts={"path": str(asked)}, **keys)
    assert data_sizes(online, {}) == DataSizes(0, 5, 45, 0, 100, 256, 356)
    assert data_sizes(online, {"prompts": 200, "prompt_tokens": 8}) == DataSizes(0, 20, 180, 0, 8, 256, 264)


def test_states_are_those_of_the_zero_paper() -> None:
    """Figure 1 of 1910.02054: 7.5 billion weights on 64 GPUs take 120, 16.6 and 1.9 GB."""
    shape = replace(shape_of("llama-3.2-1b"), weights=7_500_000_000)
    expected = {"none": 120.0, "zero2": 16.6, "zero3": 1.9, "fsdp": 1.9}
    for shard, gigabytes in expected.items():
        found = states(TrainingConfig(), shape, Machine(DEVICES["h100"], 64, shard), 4, 2)  # pyright: ignore
        assert sum(found) / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_checkpointing_lora_and_small_packs_take_less_memory() -> None:
    run, machine = config(), Machine(DEVICES["h100"], 8, "fsdp")
    work = Passes(1000, 800, 500, 600, 4096, steps=10, batch=32)
    full, adapter = shape_of("llama-3.1-8b"), shape_of("llama-3.1-8b", LoraConfig())

    def peak(work: Passes, shape: ModelShape, machine: Machine = machine) -> float:
        return training_memory(work, run.training, run, shape, machine).total

    # One layer of 32 is kept, and the float32 input of each.
    layer = layer_bytes(full, 4, 2)
    saved = 4096 * (32 * layer - (layer + 32 * 4 * 4096))
    assert peak(work, full) - peak(replace(work, checkpointing=True), full) == pytest.approx(saved)
    assert peak(replace(work, budget=1024), full) < 0.7 * peak(work, full)
    alone = Machine(DEVICES["h100"])
    assert peak(work, full, alone) - peak(work, adapter, alone) > 12 * full.weights
    assert peak(work, full, alone) > 2 * peak(work, full)


def test_weights_of_scoring_are_those_of_the_loaded_model(saved: Callable[[str], PolicySource]) -> None:
    for name in ("llama", "llama-tied", "qwen2", "mistral", "gpt2", "falcon"):
        model: Any = load_model(saved(name), PolicyConfig(model="any"), "float32", scores_in="bfloat16")
        shape = shape_of(saved(name).model)
        assert sum(weight.nbytes for weight in model.parameters()) == 4 * shape.weights - 2 * shape.cast, name
    # 48 tokens of width 32, and a feed-forward part of width 48 or 128. None of GPT-2's layers is cast once.
    sizes = {name: shape_of(saved(name).model) for name in ("llama", "llama-tied", "gpt2")}
    assert {name: (shape.matrix, shape.recast) for name, shape in sizes.items()} == {
        "llama": (48 * 32, 0), "llama-tied": (48 * 32, 48 * 32), "gpt2": (128 * 32, 128 * 32)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "machine", "kind", "tokens", "expected"),
    [
        # Cast 2 x 700, the others 4 x 300, the output layer's cast 2 x 100, and 320 a token.
        ({}, Machine(CPU), "scoring", 50, 2800 + 16000),
        ({}, Machine(CPU, 2, "zero3"), "scoring", 50, 2800 + 16000),
        ({}, Machine(CPU), "reference scoring", 50, 2800 + 16000),
        # Loading: 4 x 1000, and the cast of the largest weight, 2 x 200.
        ({}, Machine(CPU), "scoring", 1, 4400),
        # Divided: 4 x 1000 / 2, and two layers of 2 x 300.
        ({}, Machine(CPU, 2, "fsdp"), "scoring", 50, 3200 + 16000),
        # Weights of float32, whatever the policy's: 480 a token.
        ({"policy__dtype": "bfloat16", "scoring__dtype": "float32"}, Machine(CPU), "scoring", 50, 4000 + 24000),
        ({"training__precision": "float32"}, Machine(CPU), "reference scoring", 50, 4000 + 24000),
        # Nothing is cast: 280 a token.
        ({"policy__dtype": "bfloat16"}, Machine(CPU), "scoring", 50, 2000 + 14000),
    ],
)  # fmt: skip
def test_memory_of_scoring_by_hand(
    keys: dict[str, Any], machine: Machine, kind: Any, tokens: int, expected: int
) -> None:
    """A token of w-byte weights and s-byte products: 2 x 10 w + (10 + 3 x 20) s, and 10 (s + 8) of logits."""
    shape = ModelShape(
        weights=1000, products=800, layer=300, head=100, layers=2, width=10, inner=20, gated=True, queries=10,
        keys=10, heads=1, vocabulary=10, cast=700, matrix=200, recast=100,
    )  # fmt: skip
    given = {"scoring__dtype": "bfloat16", "training__precision": "bfloat16"} | keys
    work = Passes(rows=10, tokens=tokens, longest=tokens, responses=tokens, budget=tokens)
    assert part_memory(Part("x", kind, work), config(**given), shape, machine).total == expected


def test_the_reference_of_a_training_on_sampled_responses_keeps_its_weights() -> None:
    run = config(rlhf__method="grpo", rlhf__reward="m:f", data__pairs=None, data__prompts={"path": "p.jsonl"}, rounds=1)
    shape, machine = shape_of("llama-3.2-1b"), Machine(DEVICES["h100"])
    work = Passes(rows=10, tokens=10, longest=10, responses=10, budget=10)
    found = part_memory(Part("x", "reference scoring", work), run, shape, machine)
    assert found.weights == 4 * shape.weights + 2 * shape.matrix


def test_time_of_a_step_by_hand() -> None:
    shape, device = shape_of("llama-3.1-8b"), DEVICES["h100"]
    layers = shape.products - shape.head
    work = Passes(rows=64, tokens=1000, longest=600, responses=800, budget=4096, steps=2, batch=32)
    attention = 4 * 32 * 4096 * 300
    flops = 3 * (64_000 * (2 * layers + attention) + 64 * 800 * 2 * shape.head)
    part = Part("round-1/train", "training", work)
    assert part_flops(part, shape) == pytest.approx(flops)
    alone = part_seconds(part, config(), shape, Machine(device), UNIT)
    updates = 2 * 28 * shape.weights / device.bandwidth
    assert alone == pytest.approx(flops / device.flops + updates)
    both = part_seconds(part, config(), shape, Machine(device, 2), UNIT)
    reduced = 2 * 2 * 4 * shape.weights / 2 / device.link
    assert both == pytest.approx(flops / 2 / device.flops + updates + reduced)
    again = part_seconds(replace(part, work=replace(work, checkpointing=True)), config(), shape, Machine(device), UNIT)
    assert again == pytest.approx(alone + 64_000 * (2 * layers + attention) / device.flops)


def test_decoding_is_bound_by_the_memorys_bandwidth() -> None:
    shape, device = shape_of("llama-3.1-8b"), DEVICES["h100"]
    work = Sampling(prompts=16, samples=4, together=16, prompt=100, response=100, limit=100)
    found = part_seconds(Part("round-2/sample", "sampling", work), config(), shape, Machine(device), UNIT)
    cache = 64 * 150 * 2 * 2 * 32 * 1024
    prefill = 1600 * 2 * (shape.products - shape.head) / device.flops
    assert found == pytest.approx(100 * (2 * shape.weights + cache) / device.bandwidth + prefill)
    # In float16, the policy's own weights are sampled from, and keys and values are as wide.
    mixed, part = config(scoring__dtype="float16"), Part("round-2/sample", "sampling", work)
    found_mixed = part_seconds(part, mixed, shape, Machine(device), UNIT)
    assert found_mixed == pytest.approx(2 * 100 * (2 * shape.weights + cache) / device.bandwidth + prefill)
    assert part_memory(part, mixed, shape, Machine(device)).weights == 4 * shape.weights
    slow = part_seconds(
        Part("round-2/sample", "sampling", work), config(), shape, Machine(device), replace(UNIT, launch=1)
    )
    assert slow == pytest.approx(found + 100 * 32)


def project(*, gpus: int = 8, shard: Any = "none", gpu: str = "h100", **keys: Any) -> Projection:
    given = {"pairs": 1000, "prompt_tokens": 100, "response_tokens": 200}
    return project_run(config(**keys), Machine(DEVICES[gpu], gpus, shard), Efficiency(), given, price=2.0)


def test_what_does_not_fit_fits_with_each_remedy() -> None:
    found = project()
    assert not found.fits
    assert found.remedies == ["--shard zero2", "--gpus 16 --shard fsdp"]
    assert project(shard="zero2").fits
    assert project(gpus=16, shard="fsdp").fits
    assert not project(policy__lora={}).fits
    assert project(policy__lora={}, training__gradient_checkpointing=True).fits


def test_remedies_are_combined_where_none_is_enough() -> None:
    found = project(gpus=1, gpu="a10")
    assert not found.fits
    assert all(" and " in remedy or "--gpus" in remedy for remedy in found.remedies)
    assert found.remedies


def test_money_is_hours_times_price() -> None:
    found = project(shard="zero2")
    for part in found.parts:
        assert part.gpu_hours == pytest.approx(part.seconds * 8 / 3600)
        assert part.cost == pytest.approx(2 * part.gpu_hours)
    kinds = found.by_kind()
    assert set(kinds) == {"reference scoring", "scoring", "sampling", "rescoring", "training", "evaluation"}
    assert sum(len(parts) for parts in kinds.values()) == len(found.parts)


def test_sizes_of_data_are_given_known_or_counted(tmp_path: Path) -> None:
    hub = config(
        data__pairs={"path": "Anthropic/hh-rlhf"}, data__heldout={"path": "Anthropic/hh-rlhf", "split": "test"}
    )
    found = data_sizes(hub, {})
    assert (found.pairs, found.heldout, found.prompts) == (160_800, 8_552, 160_800)
    assert data_sizes(hub, {"pairs": 5, "response_tokens": 7}).pairs == 5
    file = tmp_path / "pairs.jsonl"
    row = '{"prompt": "' + "p" * 400 + '", "chosen": "' + "c" * 80 + '", "rejected": "' + "r" * 120 + '"}\n'
    file.write_text(row * 20, encoding="utf-8")
    own = data_sizes(config(data__pairs__path=str(file)), {})
    assert (own.pairs, own.heldout, own.prompt_tokens, own.response_tokens) == (19, 1, 100, 25)
    short = data_sizes(config(data__pairs__path=str(file), data__max_length=64), {})
    assert (short.prompt_tokens, short.response_tokens) == (48, 16)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"policy__model": "no/such-model"}, ["policy.model: no/such-model", "llama-3.1-8b"]),
        ({"policy__lora": {"target_modules": ["nothing"]}}, ["policy.lora.target_modules", "nothing"]),
    ],
)
def test_mistakes_name_the_key(keys: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(SeralignError) as caught:
        project(**keys)
    for word in says:
        assert word in str(caught.value)


def test_unknown_sizes_name_the_options() -> None:
    with pytest.raises(ConfigError, match=r"data\.pairs: .*--pairs, --prompt_tokens, --response_tokens"):
        data_sizes(config(data__pairs__path="someone/their-pairs"), {})


def test_a_folder_with_nothing_but_a_config_is_enough(tmp_path: Path) -> None:
    model_config(PolicyConfig(model="qwen2.5-0.5b")).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == shape_of("qwen2.5-0.5b")
    assert shape_of("Qwen/Qwen2.5-0.5B-Instruct") == shape_of("qwen2.5-0.5b")


def test_reward_models_and_their_evaluation_are_counted() -> None:
    """Two models over 100 pairs, and over two responses of 50 tokens to each of 100 prompts of 20 tokens beside the
    policy and its reference; a reward model over the 10 held-out pairs."""
    models = {"scoring__reward": "mixed", "scoring__reward_models": ["a", "b"]}
    plain, scored = (
        {(part.stage, part.kind): part.work for part in run_work(given, SIZES)}
        for given in (config(recipe="sera", rounds=2, bootstrap__samples=2, **more) for more in ({}, models))
    )
    assert scored["round-2/select", "scoring"].rows == 2 * SIZES.pairs  # pyright: ignore
    rows = [found["round-2/bootstrap", "rescoring"].rows for found in (plain, scored)]  # pyright: ignore
    assert rows[1] - rows[0] == 2 * SIZES.prompts
    assert set(scored) - set(plain) == {("round-2/select", "scoring")}
    nothing = {"evaluation__prompts": 0, "evaluation__baseline": False, "evaluation__token_pairs": 0}
    reward = config(objective__name="reward", rounds=1, **nothing)
    evaluated = [part.work for part in run_work(reward, SIZES) if part.stage == "round-1/evaluate"]
    assert [work.rows for work in evaluated] == [SIZES.heldout]  # pyright: ignore

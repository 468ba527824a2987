"""Tiny models, pairs of random tokens, and one training of them by the steps that the loop takes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import tiny
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    set_seed,
)

from seralign import distributed
from seralign.config import LoraConfig, PolicyConfig, TrainingConfig
from seralign.laboratory.clauses import VOCABULARY
from seralign.laboratory.model import build_tokenizer
from seralign.objectives import ObjectiveSum
from seralign.policy.abilities import packed_length
from seralign.policy.heads import HEADS, LANGUAGE_MODEL, Head
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model
from seralign.policy.quiet import quiet_transformers
from seralign.records import Pair
from seralign.rewards.cached_logprobs import ScoringPolicy, logps
from seralign.rewards.responses import Responses
from seralign.training.batches import row_sizes
from seralign.training.moving import Moves
from seralign.training.plan import Pack, plan_training
from seralign.training.train import TrainingData, heldout_packs, train

VOCAB = len(VOCABULARY)


def tiny_config(architecture: str) -> PretrainedConfig:
    """Two layers of width 32; GPT-2 with the dropout 0.1 that its published configuration has."""
    if architecture == "gpt2":
        return GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2,
            resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
        )  # fmt: skip
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture]
    return kind(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        initializer_range=0.2,
    )  # fmt: skip


def save_tiny(folder: Path, architecture: str = "llama") -> Path:
    """A model with random weights and its tokenizer, where ``from_pretrained`` opens them."""
    torch.manual_seed(1)
    with quiet_transformers():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(tiny_config(architecture))
        model.save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
    return folder


def random_pairs(count: int, seed: int = 0, *, soft: bool = False) -> datasets.Dataset:
    """Pairs of random tokens, prompts of 2 to 12, responses of 1 to 12; ``soft``: labels and weights differ too."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(3, VOCAB, size=random.integers(low, high)).tolist()

    rows, labels, weights = [], [], []
    for _ in range(count):
        rows.append((ids(2, 13), ([*ids(0, 12), 2], [*ids(0, 12), 2])))
        labels.append(Pair(float(random.uniform(0.5, 1)) if soft else 1.0))
        weights.append(float(random.uniform(0.2, 3)) if soft else 1.0)
    return tiny.examples_table(rows, labels, weights)


def reference_logps(
    model: Path, table: datasets.Dataset, packs: list[Pack], config: TrainingConfig, dtype: str = "float32"
) -> np.ndarray:
    """As the loop computes them where training starts from the reference: anew, in the trainer's packs."""
    precision = "float32" if config.precision == "auto" else config.precision
    load = partial(load_model, PolicySource(str(model)), PolicyConfig(), dtype, divided=divided_in(config))
    policy = ScoringPolicy("reference", "digest", load, dtype, precision)
    responses = Responses(table)
    both = [responses.numbering.of_rows(pack.rows) for pack in packs]
    return logps(responses, both, policy, None, exact=True)


def training_data(
    model: Path,
    table: datasets.Dataset,
    objective: ObjectiveSum,
    config: TrainingConfig,
    heldout: datasets.Dataset | None = None,
    seed: int = 0,
    moves: Moves | None = None,
) -> TrainingData:
    """Plan and reference of a training that starts from the reference, ``model``."""
    sizes = row_sizes(table, objective.reads)
    longest = packed_length(PolicySource(str(model)), PolicyConfig())
    plan = plan_training(sizes, config, seed, packed_length=longest, world_size=distributed.world_size())
    held = None if heldout is None else heldout_packs(heldout, objective, config, longest)
    reference = held_reference = None
    if objective.uses_reference and moves is None:
        first = plan.packs[: plan.accumulation * plan.world_size * -(-len(table) // config.batch_size)]
        reference = reference_logps(model, table, first, config)
        if heldout is not None and held is not None:
            held_reference = reference_logps(model, heldout, held, config)
    return TrainingData(table, plan, reference, heldout, held, held_reference, moves=moves)


def divided_in(config: TrainingConfig) -> str | None:
    """The precision of a divided model, if there are processes to divide it over."""
    return config.precision if config.shard == "fsdp" and distributed.world_size() > 1 else None


def policy_model(
    model: Path,
    lora: LoraConfig | None = None,
    seed: int = 0,
    divided: str | None = None,
    head: Head = LANGUAGE_MODEL,
) -> nn.Module:
    """The policy as the loop loads it for training."""
    set_seed(seed)
    how = {"trainable": True, "lora": lora, "divided": divided, "head": head}
    return load_model(PolicySource(str(model)), PolicyConfig(), "float32", **how)


def run_training(
    model: nn.Module, folder: Path, data: TrainingData, objective: ObjectiveSum, config: TrainingConfig
) -> dict[str, Any]:
    """One training in ``folder``; returns what it measured."""
    folder.mkdir(exist_ok=True)
    tokenizer = build_tokenizer()
    found = train(
        model,
        HEADS[objective.head].prepare(model, tokenizer, frozenset({2})),
        data,
        objective,
        config,
        folder,
        section="training",
        seed=0,
        label="test",
        log_folder=folder / "logs",
    )
    return vars(found)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def plain_logps(model: nn.Module, row: dict[str, Any], response: str) -> torch.Tensor:
    """Log-probability of one response by one plain forward pass: no padding, no mask, no options."""
    ids = torch.tensor([[*row["prompt_ids"], *row[response]]])
    logits = model(input_ids=ids).logits[0, :-1].double()
    found = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    return found[len(row["prompt_ids"]) - 1 :].sum()

"""Tiny random models of several architectures, saved as transformers saves them, and token ids to feed them.

Weights are drawn wide, so that log-probabilities differ by several nats from token to token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    BloomConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from seralign.data.table import PROMPT_SCHEMA, example_columns, read_table
from seralign.policy.identity import PolicySource
from seralign.policy.quiet import quiet_transformers
from seralign.records import Demonstration, Example, Pair, Preference, Prompt, Ranking, Response
from seralign.runs.examples import EXAMPLE_SCHEMA

ARCHITECTURES = ("llama", "llama-tied", "qwen2", "gpt2", "mistral")
EOS, PAD, BOS = 0, 1, 2
VOCABULARY = ("</s>", "<pad>", "<s>", *(f"w{number}" for number in range(45)))
DROPOUT = 0.1

Sequence_ = tuple[list[int], list[int]]


def make_tokenizer(size: int = len(VOCABULARY)) -> PreTrainedTokenizerFast:
    """One id a word between spaces: ``w0`` is 3, ``w1`` is 4 ..."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(VOCABULARY[:size])}))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        bos_token="<s>",
        clean_up_tokenization_spaces=False,
    )


def make_model(name: str = "llama", seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A random model of 2 layers and 32 channels; ``settings`` go into its configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(_config(name, settings)).eval()


def save_model(folder: Path, name: str = "llama", seed: int = 0, **settings: Any) -> PolicySource:
    """Save a random model and its tokenizer to ``folder``."""
    model = make_model(name, seed, **settings)
    with quiet_transformers():
        model.save_pretrained(folder)
    make_tokenizer(model.config.vocab_size).save_pretrained(folder)
    return PolicySource(str(folder))


def save_adapter(folder: Path, base: PolicySource, seed: int = 0, **settings: Any) -> PolicySource:
    """Save a LoRA adapter on ``base`` that changes its output, as a trained one would."""
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "lora_dropout": DROPOUT} | settings
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.model), LoraConfig(**options))
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return PolicySource(base.model, adapter=str(folder))


def make_sequences(count: int, seed: int = 0, vocabulary: int = len(VOCABULARY)) -> list[Sequence_]:
    """(prompt ids, response ids) of 1 to 12 tokens each; any token may be anywhere, EOS and PAD too."""
    random = np.random.default_rng(seed)

    def ids() -> list[int]:
        return random.integers(0, vocabulary, random.integers(1, 13)).tolist()

    return [(ids(), ids()) for _ in range(count)]


def pairs_table(count: int, seed: int = 0) -> datasets.Dataset:
    """A table of pairs of random tokens."""
    sequences = zip(make_sequences(count, seed), make_sequences(count, seed + 1), strict=True)
    rows = [(prompt, [chosen, rejected]) for (prompt, chosen), (_, rejected) in sequences]
    return examples_table(rows)


def examples_table(
    rows: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    preferences: Sequence[Preference] | None = None,
    weights: Sequence[float] | None = None,
) -> datasets.Dataset:
    """A table of examples ``example-0``, ``example-1``, ... with these (prompt ids, ids of each response) and empty
    texts: pairs with p = 1, demonstrations, or rankings from 0, unless preferences are given."""
    forms: dict[int, Preference] = {1: Demonstration(), 2: Pair()}
    examples = [
        Example(
            f"example-{number}",
            Prompt(f"prompt of {list(prompt)}", "", tuple(prompt)),
            tuple(Response("", tuple(ids)) for ids in responses),
            preferences[number]
            if preferences
            else forms.get(len(responses), Ranking(tuple(range(1, len(responses) + 1)))),
            weights[number] if weights else 1.0,
        )
        for number, (prompt, responses) in enumerate(rows)
    ]
    columns = pa.table(example_columns(examples, ()), schema=EXAMPLE_SCHEMA)
    return datasets.Dataset(columns, fingerprint=f"examples-{id(columns)}")


def as_pairs(table: datasets.Dataset) -> datasets.Dataset:
    """A table of pairs and demonstrations with the first response as ``chosen`` and ``chosen_ids``, the second as
    ``rejected`` and ``rejected_ids``, empty where there is none, and the label of a pair as ``p``."""
    columns = {name: table[name][:] for name in table.column_names if name not in ("responses", "response_ids")}
    for kind, ending, none in (("responses", "", ""), ("response_ids", "_ids", [])):
        if kind in table.column_names:
            given = table[kind][:]
            columns[f"chosen{ending}"] = [responses[0] for responses in given]
            columns[f"rejected{ending}"] = [responses[1] if len(responses) > 1 else none for responses in given]
    columns["p"] = [stored[0] if stored else 1.0 for stored in table["preference"][:]]
    features = {f"{side}_ids": datasets.List(datasets.Value("int32")) for side in ("chosen", "rejected")}
    made = datasets.Dataset.from_dict(columns)
    return made.cast(datasets.Features({**made.features, **{k: v for k, v in features.items() if k in columns}}))


def read_pairs(path: Path | str) -> datasets.Dataset:
    """A table of pairs of a run, ``as_pairs``; a table of prompts as it is."""
    table = read_table(path)
    return as_pairs(table) if "preference" in table.column_names else table


def reference_logp(model: torch.nn.Module, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    """log pi(response | prompt) token by token from the full logits of one unpadded sequence.

    Independent of the library; give a ``model.double()`` for a float64 reference.
    """
    ids = [*prompt, *response]
    logits_TV = model(input_ids=torch.tensor([ids])).logits[0]
    total = torch.zeros((), dtype=torch.float64)
    for at in range(len(prompt), len(ids)):
        row_V = logits_TV[at - 1].double()
        total = total + row_V[ids[at]] - row_V.exp().sum().log()
    return total


def _config(name: str, settings: dict[str, Any]) -> PretrainedConfig:
    common: dict[str, Any] = {
        "vocab_size": len(VOCABULARY), "eos_token_id": EOS, "pad_token_id": PAD, "bos_token_id": BOS,
        "initializer_range": 0.3,
    }  # fmt: skip
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    modern = common | shape | {"intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": False}
    match name:
        case "llama":
            return LlamaConfig(**modern | {"attention_dropout": DROPOUT} | settings)
        case "llama-tied":
            return LlamaConfig(**modern | {"tie_word_embeddings": True} | settings)
        case "qwen2":
            return Qwen2Config(**modern | {"attention_dropout": DROPOUT} | settings)
        case "mistral":
            # The window is shorter than the sequences that tests make.
            return MistralConfig(**modern | {"sliding_window": 6} | settings)
        case "gpt2":
            dropout = {"resid_pdrop": DROPOUT, "embd_pdrop": DROPOUT, "attn_pdrop": DROPOUT}
            return GPT2Config(
                **common | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64} | dropout | settings
            )
        case "qwen3":
            return Qwen3Config(**modern | {"head_dim": 8} | settings)
        case "mistral-full":
            return MistralConfig(**modern | {"sliding_window": None} | settings)
        case "gemma":
            return GemmaConfig(**modern | {"head_dim": 8, "tie_word_embeddings": True} | settings)
        case "gemma2" | "gemma3":
            # Caps that bend: logits of these models are several nats, attention scores too.
            kind = Gemma2Config if name == "gemma2" else Gemma3TextConfig
            caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}
            tied = {"head_dim": 8, "tie_word_embeddings": True, "sliding_window": 32}
            return kind(**modern | tied | (caps if name == "gemma2" else {}) | settings)
        case "phi":
            return PhiConfig(**modern | settings)
        case "phi3":
            return Phi3Config(**modern | {"sliding_window": None} | settings)
        case "cohere":
            return CohereConfig(**modern | {"logit_scale": 0.25} | settings)
        case "granite":
            return GraniteConfig(**modern | {"logits_scaling": 3.0} | settings)
        case "lfm2":
            return Lfm2Config(**modern | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48} | settings)
        case "bloom":
            return BloomConfig(**common | {"hidden_size": 32, "n_layer": 2, "n_head": 4} | settings)
        case "gpt-neox":
            return GPTNeoXConfig(**common | shape | {"intermediate_size": 128} | settings)
        case "falcon-alibi":
            return _config("falcon", {"alibi": True} | settings)
        case "falcon":
            dropout = {"hidden_dropout": DROPOUT, "attention_dropout": DROPOUT}
            return FalconConfig(**common | shape | dropout | {"alibi": False} | settings)
    raise ValueError(f"no tiny {name}")


def prompts_table(count: int = 11, seed: int = 0) -> datasets.Dataset:
    """Prompts of 1 to 12 tokens, longest and shortest anywhere."""
    given_ids = [prompt for prompt, _ in make_sequences(count, seed)]
    return plain_prompts([f"p{number}" for number in range(count)], [str(ids) for ids in given_ids], given_ids)


def plain_prompts(names: Sequence[str], texts: Sequence[str], ids: Sequence[Sequence[int]]) -> datasets.Dataset:
    """A table of prompts that are no conversations."""
    columns = {name: [None] * len(names) for name in PROMPT_SCHEMA.names} | {
        "prompt_id": names,
        "text": texts,
        "ids": ids,
    }
    return datasets.Dataset.from_dict(columns, datasets.Features.from_arrow_schema(PROMPT_SCHEMA))

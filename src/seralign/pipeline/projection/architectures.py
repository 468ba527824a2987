"""Well-known architectures by name, so that a run can be planned without the hub.

Values are those of the models' config.json that decide sizes. A test compares the numbers of weights with the
published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Known:
    """An architecture: what its config.json says, and the names on the hub of models that have it (lower case)."""

    settings: dict[str, Any]
    hub: tuple[str, ...] = ()


def _settings(kind: str, *sizes: int, **more: Any) -> dict[str, Any]:
    vocabulary, width, inner, layers, heads = sizes
    return {
        "model_type": kind, "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads,
    } | more  # fmt: skip


def _tied(kind: str, *sizes: int, keys: int, **more: Any) -> dict[str, Any]:
    return _settings(kind, *sizes, num_key_value_heads=keys, tie_word_embeddings=True, **more)


def _untied(kind: str, *sizes: int, keys: int, **more: Any) -> dict[str, Any]:
    return _settings(kind, *sizes, num_key_value_heads=keys, tie_word_embeddings=False, **more)


def _neox(*sizes: int) -> dict[str, Any]:
    return _settings("gpt_neox", *sizes, max_position_embeddings=2048)


def _with_instruct(*names: str) -> tuple[str, ...]:
    return tuple(name + ending for name in names for ending in ("", "-instruct"))


_LONG = {"max_position_embeddings": 131072}
_LLAMA_3 = (128256, 4096, 14336, 32, 32)

ARCHITECTURES: dict[str, Known] = {
    "llama-2-7b": Known(
        _untied("llama", 32000, 4096, 11008, 32, 32, keys=32, max_position_embeddings=4096),
        ("meta-llama/llama-2-7b-hf", "meta-llama/llama-2-7b-chat-hf"),
    ),
    "llama-3-8b": Known(
        _untied("llama", *_LLAMA_3, keys=8, max_position_embeddings=8192),
        (*_with_instruct("meta-llama/meta-llama-3-8b"), "princeton-nlp/llama-3-base-8b-sft"),
    ),
    "llama-3.1-8b": Known(
        _untied("llama", *_LLAMA_3, keys=8, **_LONG),
        _with_instruct("meta-llama/llama-3.1-8b", "meta-llama/meta-llama-3.1-8b"),
    ),
    "llama-3.2-1b": Known(
        _tied("llama", 128256, 2048, 8192, 16, 32, keys=8, head_dim=64, **_LONG),
        _with_instruct("meta-llama/llama-3.2-1b"),
    ),
    "llama-3.2-3b": Known(
        _tied("llama", 128256, 3072, 8192, 28, 24, keys=8, head_dim=128, **_LONG),
        _with_instruct("meta-llama/llama-3.2-3b"),
    ),
    "tinyllama-1.1b": Known(
        _untied("llama", 32000, 2048, 5632, 22, 32, keys=4, max_position_embeddings=2048),
        ("tinyllama/tinyllama-1.1b-intermediate-step-1431k-3t", "tinyllama/tinyllama-1.1b-chat-v1.0"),
    ),
    "smollm2-135m": Known(
        _tied("llama", 49152, 576, 1536, 30, 9, keys=3, max_position_embeddings=8192),
        _with_instruct("huggingfacetb/smollm2-135m"),
    ),
    "smollm2-1.7b": Known(
        _tied("llama", 49152, 2048, 8192, 24, 32, keys=32, max_position_embeddings=8192),
        _with_instruct("huggingfacetb/smollm2-1.7b"),
    ),
    "mistral-7b": Known(
        _untied("mistral", 32000, 4096, 14336, 32, 32, keys=8, max_position_embeddings=32768, sliding_window=4096),
        (
            "mistralai/mistral-7b-v0.1",
            "mistralai/mistral-7b-instruct-v0.1",
            "alignment-handbook/zephyr-7b-sft-full",
        ),
    ),
    "qwen2.5-0.5b": Known(
        _tied("qwen2", 151936, 896, 4864, 24, 14, keys=2, max_position_embeddings=32768),
        _with_instruct("qwen/qwen2.5-0.5b"),
    ),
    "qwen2.5-1.5b": Known(
        _tied("qwen2", 151936, 1536, 8960, 28, 12, keys=2, **_LONG), _with_instruct("qwen/qwen2.5-1.5b")
    ),
    "qwen2.5-7b": Known(
        _untied("qwen2", 152064, 3584, 18944, 28, 28, keys=4, **_LONG), _with_instruct("qwen/qwen2.5-7b")
    ),
    "qwen3-8b": Known(
        _untied("qwen3", 151936, 4096, 12288, 36, 32, keys=8, head_dim=128, max_position_embeddings=40960),
        ("qwen/qwen3-8b", "qwen/qwen3-8b-base"),
    ),
    "gemma-2-2b": Known(
        _tied("gemma2", 256000, 2304, 9216, 26, 8, keys=4, head_dim=256, max_position_embeddings=8192),
        ("google/gemma-2-2b", "google/gemma-2-2b-it"),
    ),
    "gemma-2-9b": Known(
        _tied("gemma2", 256000, 3584, 14336, 42, 16, keys=8, head_dim=256, max_position_embeddings=8192),
        ("google/gemma-2-9b", "google/gemma-2-9b-it"),
    ),
    "phi-3-mini": Known(
        _untied("phi3", 32064, 3072, 8192, 32, 32, keys=32, max_position_embeddings=4096, pad_token_id=32000),
        ("microsoft/phi-3-mini-4k-instruct",),
    ),
    "pythia-1.4b": Known(_neox(50304, 2048, 8192, 24, 16), ("eleutherai/pythia-1.4b",)),
    "pythia-2.8b": Known(_neox(50304, 2560, 10240, 32, 32), ("eleutherai/pythia-2.8b",)),
    "pythia-6.9b": Known(_neox(50432, 4096, 16384, 32, 32), ("eleutherai/pythia-6.9b",)),
}  # fmt: skip


def known_architecture(name: str) -> dict[str, Any] | None:
    """The settings of an architecture by its name here or on the hub; None if it is not in the table."""
    lower = name.lower()
    found = ARCHITECTURES.get(lower) or next((known for known in ARCHITECTURES.values() if lower in known.hub), None)
    return None if found is None else found.settings

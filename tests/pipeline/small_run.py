"""A whole run that takes seconds: the built-in world, made small."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from seralign.config import RunConfig, load_config

SMALL: dict[str, Any] = {
    "recipe": "sera",
    "rounds": 3,
    "world": {"pairs": 60, "demonstrations": 120, "prompts": 24, "heldout": 20},
    "data.max_length": 48,
    "sft": {"learning_rate": 3e-3, "max_steps": 6, "batch_size": 16, "save_steps": 3, "log_steps": 3,
            "precision": "float32"},
    "training": {
        "learning_rate": 1e-3, "max_steps": 4, "batch_size": 8, "save_steps": 2, "log_steps": 2, "tokens_per_pack": 200,
        "precision": "float32",
    },
    "scoring": {"tokens_per_pack": 600, "dtype": "float32"},
    "bootstrap": {"samples": 3, "temperature": 1.0, "max_new_tokens": 24, "batch_size": 8},
    "evaluation": {"prompts": 16, "baseline": True, "batch_size": 8, "max_new_tokens": 24},
    "stop.metric": "never",
}  # fmt: skip


def small_config(out: Path, **overrides: Any) -> RunConfig:
    """The small run, with dotted overrides (``stop__metric`` for ``stop.metric``)."""
    values = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(None, values | {"out": str(out)})


def logps_alone(folder: Path, table: Iterable[Mapping[str, Any]], side: str) -> np.ndarray:
    """Response log-probabilities one sequence at a time in float64, straight from transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    found = []
    for row in table:
        prompt, response = row["prompt_ids"], row[side]
        ids = torch.tensor([[*prompt, *response]])
        with torch.no_grad():
            logits = model(ids).logits[0].log_softmax(-1)
        steps = range(len(prompt) - 1, ids.shape[1] - 1)
        found.append(sum(float(logits[at, ids[0, at + 1]]) for at in steps))
    return np.array(found)

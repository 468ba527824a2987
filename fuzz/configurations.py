"""Configuration files: valid ones with values, keys and bytes changed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from fuzz.target import Target
from fuzz.values import ODD_NUMBERS, damaged, mutated, text, value
from seralign.config import load_config, to_dict

VALID: dict[str, Any] = {
    "recipe": "sera", "out": "runs/x", "rounds": 2, "policy": {"model": "m", "lora": {"r": 8}},
    "data": {"pairs": {"path": "pairs.jsonl", "columns": {"chosen": "good"}}, "max_length": 512},
    "objective": {"name": "dpo", "beta": 0.1}, "training": {"learning_rate": 1e-6, "batch_size": 4},
    "bootstrap": {"max_new_tokens": 128, "shares": [0.3, 0.5]}, "stop": {"metric": "never"},
}  # fmt: skip


def make(source: random.Random) -> bytes:
    """A configuration as YAML: any key with another value, keys renamed, bytes damaged."""
    values = to_dict(load_config(None, VALID)) if source.random() < 0.3 else VALID
    changed = mutated(source, values)
    if isinstance(changed, dict) and changed and source.random() < 0.5:
        section = source.choice(list(changed))
        part = changed[section]
        odd = source.choice([source.choice(ODD_NUMBERS), text(source), value(source, 1)])
        if isinstance(part, dict) and part:
            part[source.choice(list(part))] = odd
        else:
            changed[section] = odd
    try:
        written = yaml.safe_dump(changed, allow_unicode=source.random() < 0.5).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, RecursionError):
        written = yaml.safe_dump(VALID).encode()
    return damaged(source, written) if source.random() < 0.5 else written


def read(made: bytes, folder: Path) -> None:
    """Load the file."""
    path = folder / "run.yaml"
    path.write_bytes(made)
    load_config(path)


CONFIGURATIONS = Target("configurations", 0.04, make, read)

"""A run to ask, merge and publish: a LoRA adapter on a tiny model with a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluate_files import OUTPUTS, PROMPTS, alpaca_rows, write_rows
from text_model import CHAT_TEMPLATE, save_text_model

from seralign.config import load_config


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that is talked to in turns."""
    folder = tmp_path_factory.mktemp("models") / "talker"
    save_text_model(folder, CHAT_TEMPLATE)
    return folder


@pytest.fixture(scope="session")
def lora_run(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds that trained an adapter on conversations. Read only."""
    from seralign.pipeline import train

    folder = tmp_path_factory.mktemp("lora")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say {number}."}],
            "chosen": [{"role": "assistant", "content": f"{number}"}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for number in range(6)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    overrides = {
        "out": str(folder / "talk"),
        "rounds": 2,
        "policy.model": str(chat_model),
        "policy.lora": {"r": 2},
        "data.pairs.path": str(folder / "pairs.jsonl"),
        "data.max_length": 96,
        "data.system": "Be brief.",
        "objective.beta": 0.1,
        "training": {"learning_rate": 0.01, "max_steps": 3, "batch_size": 4},
        "bootstrap": None,
        "evaluation": {"prompts": 1, "max_new_tokens": 8, "token_pairs": 0},
    }
    train(load_config(None, overrides))
    return folder / "talk"


@pytest.fixture
def evaluation(tmp_path: Path) -> dict[str, Any]:
    """The configuration of an evaluation of two files of outputs, of which tests change keys. The scorer is given from
    Python."""
    files = {name: write_rows(tmp_path / f"{name}.json", alpaca_rows(name, texts)) for name, texts in OUTPUTS.items()}
    return {
        "out": str(tmp_path / "evaluation"),
        "prompts": {"path": write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in PROMPTS])},
        "policies": {name: {"outputs": path} for name, path in files.items()},
        "baseline": "b",
        "judge": "scorer",
    }

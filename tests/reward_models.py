"""Tiny reward models that read any text."""

from __future__ import annotations

from pathlib import Path

import torch
from text_model import save_text_model
from transformers import AutoTokenizer

from seralign.config import PolicyConfig
from seralign.policy.heads import REWARD
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_model
from seralign.policy.quiet import quiet_transformers


def save_reward_model(folder: Path, chat_template: str | None = None, seed: int = 0, scale: float = 1.0) -> Path:
    """A random reward model; ``scale`` multiplies its score."""
    base = folder.with_name(f"{folder.name}-base")
    save_text_model(base, chat_template)
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(seed)
    source = PolicySource(str(base))
    model = load_model(source, PolicyConfig(), "float32", head=REWARD)
    tokenizer = REWARD.prepare(model, tokenizer, end_tokens(source, tokenizer))
    with torch.no_grad(), quiet_transformers():
        model.score.weight.mul_(scale)  # type: ignore[union-attr, operator]
        model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return folder

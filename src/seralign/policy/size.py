"""The size of a model, without loading it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from seralign.config import PolicyConfig
from seralign.policy.identity import PolicySource
from seralign.policy.settings import model_settings


def count_weights(source: PolicySource, config: PolicyConfig) -> int:
    """Number of weights, without loading them."""
    settings = model_settings(source, config)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(settings, trust_remote_code=config.trust_remote_code)
    return sum(weight.numel() for weight in model.parameters())

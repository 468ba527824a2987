"""Checks from a model's settings that it is causal and that its position embeddings are supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from seralign.policy.quiet import quiet_transformers


def sees_later(settings: PretrainedConfig) -> str | None:
    """Why a model that transformers loads as a causal language model does not predict the next token; None if it does.

    transformers loads most encoders that way. A setting makes them causal, and by default it is off.
    """
    later = "attends to later tokens"
    if settings.model_type == "xlnet":
        return "is a permutation language model, which does not predict the next token"
    if getattr(settings, "causal", None) is False:
        return f"{later}: causal is false in its config.json"
    both = getattr(settings.get_text_config(), "use_bidirectional_attention", None)
    if both is True or both == "all":
        return f"{later}: use_bidirectional_attention is set in its config.json"
    is_encoder = type(settings) in MODEL_FOR_MASKED_LM_MAPPING and hasattr(settings, "is_decoder")
    if is_encoder and not settings.is_decoder:
        return f"{later}: is_decoder is not true in its config.json"
    return None


def unknown_rope(settings: PretrainedConfig) -> str | None:
    """An error message if neither transformers nor the model's class knows the kind of rotary embedding; else None."""
    known = {"default", *ROPE_INIT_FUNCTIONS}
    unknown = [kind for kind in _rope_types(settings) if kind not in known]
    if not unknown or getattr(settings, "auto_map", None):
        return None
    try:
        # A model's own class may define further kinds.
        with quiet_transformers(), torch.device("meta"):
            AutoModelForCausalLM.from_config(settings)
    except Exception:
        return (
            f"rope_type {unknown[0]!r} in config.json is unknown to transformers {transformers.__version__}, which has "
            f"{', '.join(sorted(known))}; install the version that the model was saved with, or correct the name"
        )
    return None


def _rope_types(settings: PretrainedConfig) -> list[Any]:
    """The kinds of rotary embedding in the settings: one, or one for each type of layer."""
    found = getattr(settings.get_text_config(), "rope_parameters", None)
    if not isinstance(found, Mapping):
        return []
    parts = [found, *(part for part in found.values() if isinstance(part, Mapping))]
    return [part["rope_type"] for part in parts if part.get("rope_type") is not None]

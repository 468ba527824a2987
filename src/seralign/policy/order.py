"""What a model's settings say of the order of its tokens: whether later ones are seen, and how places are told."""

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
    """Why a model that transformers opens as a causal one does not predict the next token from those before it.

    Most families of encoders can be opened so; a setting makes them look back only, and by default it is not set.
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
    """What is wrong with a kind of rotary embedding that neither transformers nor the model's own class knows."""
    known = {"default", *ROPE_INIT_FUNCTIONS}
    unknown = [kind for kind in _rope_types(settings) if kind not in known]
    if not unknown or getattr(settings, "auto_map", None):
        return None
    try:
        # A class may have kinds of its own.
        with quiet_transformers(), torch.device("meta"):
            AutoModelForCausalLM.from_config(settings)
    except Exception:
        return (
            f"config.json's rope_type {unknown[0]!r} is unknown to transformers {transformers.__version__}, which has "
            f"{', '.join(sorted(known))}; install the version that the model was saved with, or correct the name"
        )
    return None


def _rope_types(settings: PretrainedConfig) -> list[Any]:
    """The kinds that the settings name: one, or one for each type of layer."""
    found = getattr(settings.get_text_config(), "rope_parameters", None)
    if not isinstance(found, Mapping):
        return []
    parts = [found, *(part for part in found.values() if isinstance(part, Mapping))]
    return [part["rope_type"] for part in parts if part.get("rope_type") is not None]

"""The settings of a model (``config.json``), read without its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from seralign.config import PolicyConfig
from seralign.errors import ModelError, brief
from seralign.hub import silence
from seralign.policy.identity import PolicySource, unasked
from seralign.policy.quiet import quiet_transformers

OWN_CODE = "policy.trust_remote_code: the {} has its own code; set trust_remote_code to true to run it"


def positions(settings: PretrainedConfig) -> int:
    """The longest sequence that a model accepts, in tokens; ``sys.maxsize`` if its settings do not say."""
    found = getattr(settings.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    return found if found > 0 else sys.maxsize  # XLNet has -1 for none


def model_settings(source: PolicySource, config: PolicyConfig) -> PretrainedConfig:
    """Read the settings of a policy's model (``config.json``), without its weights.

    Raises:
        ModelError: the settings cannot be read, transformers does not know the model, or the model has its own code
            and the configuration does not allow to run it.
    """
    why = None if Path(source.model).is_dir() else silence()
    try:
        raw, _ = PretrainedConfig.get_config_dict(source.model, revision=source.revision)
        own_code = _needs_own_code(raw)
    except Exception as error:
        if why is not None:
            raise ModelError(unasked(source.model, why)) from None
        raise ModelError(f"{source.model}: config.json cannot be read: {brief(error)}") from None
    if own_code and not config.trust_remote_code:
        raise ModelError(OWN_CODE.format("model"))
    model_type = raw.get("model_type")
    if "AutoConfig" not in (raw.get("auto_map") or {}) and model_type not in CONFIG_MAPPING:
        what = "config.json has no model_type" if model_type is None else f"unknown model_type {model_type!r}"
        raise ModelError(f"{source.model}: transformers does not know this model: {what}")
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(
                source.model, revision=source.revision, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:
        raise ModelError(f"{source.model}: config.json cannot be read: {brief(error)}") from None


def _needs_own_code(raw: dict[str, Any]) -> bool:
    auto_map = raw.get("auto_map") or {}
    known = raw.get("model_type") in CONFIG_MAPPING
    if "AutoConfig" in auto_map and not known:
        return True
    has_class = known and CONFIG_MAPPING[raw["model_type"]] in MODEL_FOR_CAUSAL_LM_MAPPING
    return "AutoModelForCausalLM" in auto_map and not has_class

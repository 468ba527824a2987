"""Whether a folder or a hub's model can be a policy, told from its settings alone: no weights are read, no code is run.

A model that passes may still attend to later tokens, which only a forward pass shows: ``seralign.policy.abilities``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from seralign.config import PolicyConfig
from seralign.errors import ModelError, brief
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, check_adapter_folder, check_folder, read_json
from seralign.policy.quiet import quiet_transformers

OWN_CODE = "policy.trust_remote_code: the {} brings its own code; set it to true to run it"
_NEEDED = "a causal language model is needed"
# What the name of an architecture ends with, and what such a model is.
_ENDINGS = {
    "ForMaskedLM": "a masked language model, which attends to later tokens",
    "ForPreTraining": "an encoder in pre-training, which attends to later tokens",
    "ForSequenceClassification": "a classifier",
    "ForTokenClassification": "a classifier of tokens",
    "ForMultipleChoice": "a classifier",
    "ForNextSentencePrediction": "a classifier",
    "ForQuestionAnswering": "a model that marks spans of a text",
    "RewardModel": "a reward model",
    "ForImageClassification": "a vision model",
    "ForAudioClassification": "an audio model",
    "ForCTC": "an audio model",
}
# Settings that only models of images or of sound have.
_IMAGES = ("vision_config", "vq_config", "image_size", "patch_size", "vision_tower", "num_channels")
_SOUND = (
    "audio_config", "speech_config", "audio_encoder", "audio_encoder_config", "num_mel_bins", "feat_extract_norm",
    "sampling_rate", "audio_channels",
)  # fmt: skip
_VIRTUAL = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"}


def positions(settings: PretrainedConfig) -> int:
    """Most tokens of a sequence that a model takes, as far as its settings say."""
    return getattr(settings.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def model_settings(source: PolicySource, config: PolicyConfig) -> PretrainedConfig:
    """The settings of a policy's model (``config.json``), without its weights.

    Raises:
        ModelError: they cannot be read, transformers does not know such a model, or the model brings code that the
            configuration does not allow to run.
    """
    try:
        raw, _ = PretrainedConfig.get_config_dict(source.model, revision=source.revision)
        own_code = _needs_own_code(raw)
    except Exception as error:
        raise ModelError(f"{source.model}: config.json cannot be read: {brief(error)}") from None
    if own_code and not config.trust_remote_code:
        raise ModelError(OWN_CODE.format("model"))
    model_type = raw.get("model_type")
    if "AutoConfig" not in (raw.get("auto_map") or {}) and model_type not in CONFIG_MAPPING:
        what = "config.json names no model_type" if model_type is None else f"{model_type!r} is no model_type of it"
        raise ModelError(f"{source.model}: transformers does not know this model: {what}")
    try:
        return AutoConfig.from_pretrained(
            source.model, revision=source.revision, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:
        raise ModelError(f"{source.model}: config.json cannot be read: {brief(error)}") from None


def check_model(source: PolicySource, config: PolicyConfig, key: str = "policy") -> None:
    """Refuse what is no causal language model, or what cannot be trained or scored as it is configured.

    Args:
        source: Folders or hub names.
        config: How models are loaded.
        key: The configuration's section that names it.

    Raises:
        ModelError: says in one line what the model is, and what would be right.
    """
    settings = check_kind(source, config, key)
    if config.attention is not None:
        _check_attention(settings, config)
    if config.lora is not None and isinstance(config.lora.target_modules, list):
        _check_targets(settings, config, config.lora.target_modules)
    if getattr(settings, "quantization_config", None) is not None and not (source.adapter or config.lora):
        raise ModelError(
            f"{key}.model: its weights are quantized ({_quantizer(settings)}), and these cannot be trained; give the "
            "model in bfloat16, float16 or float32, or set policy.lora"
        )


def check_mergeable(source: PolicySource, config: PolicyConfig) -> None:
    """Refuse weights that no adapter can be added to without rounding away what it does.

    Raises:
        ModelError: they are quantized.
    """
    settings = model_settings(source, config)
    if getattr(settings, "quantization_config", None) is not None:
        raise ModelError(
            f"{source.model}: its weights are quantized ({_quantizer(settings)}), so no adapter can be merged into "
            "them; give the same model in bfloat16, float16 or float32"
        )


def check_kind(source: PolicySource, config: PolicyConfig, key: str = "") -> PretrainedConfig:
    """Refuse what is no causal language model, and an adapter that is none of one.

    Args:
        source: Folders or hub names.
        config: How models are loaded.
        key: The configuration's section that names it; empty where a command names it.

    Returns:
        The model's settings.

    Raises:
        ModelError: says in one line what it is, and what would be right.
    """
    if Path(source.model).is_dir():
        check_folder(Path(source.model), key or "policy")
    try:
        settings = model_settings(source, config)
    except ModelError as error:
        named = key and str(error).startswith(source.model)
        raise ModelError(f"{key}.model: {error}" if named else str(error)) from None
    what = _other_kind(settings)
    if what is not None:
        raise ModelError(f"{f'{key}.model' if key else source.model}: {what}; {_NEEDED}")
    _check_pad(source, settings)
    if source.adapter is not None and Path(source.adapter).is_dir():
        _check_adapter(Path(source.adapter), f"{key}.adapter: " if key else "")
    return settings


def _needs_own_code(raw: dict[str, Any]) -> bool:
    auto_map = raw.get("auto_map") or {}
    known = raw.get("model_type") in CONFIG_MAPPING
    if "AutoConfig" in auto_map and not known:
        return True
    has_class = known and CONFIG_MAPPING[raw["model_type"]] in MODEL_FOR_CAUSAL_LM_MAPPING
    return "AutoModelForCausalLM" in auto_map and not has_class


def _other_kind(settings: PretrainedConfig) -> str | None:
    """What the model is, where it is no causal language model."""
    family = type(settings).__name__.removesuffix("Config")
    name = next(iter(settings.architectures or ()), family)
    if settings.is_encoder_decoder:
        return f"{family} is an encoder-decoder"
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending) and not getattr(settings, "is_decoder", False):
            return f"{name} is {kind}"
    if "AutoModelForCausalLM" in (getattr(settings, "auto_map", None) or {}):
        return None
    opened = _causal_class(settings)
    is_part = opened is not None and not isinstance(settings, opened.config_class)
    if opened is not None and is_part and opened.__name__ == name:
        return None  # the files hold the text part alone, and say so
    reads_text = any(hasattr(settings, part) for part in ("text_config", "vocab_size", "llm_config"))
    for signs, kind, both in ((_IMAGES, "a vision", "a vision-language"), (_SOUND, "an audio", "an audio-language")):
        # Models of bytes have a patch_size, too.
        own = [sign for sign in signs if opened is None or sign != "patch_size"]
        if any(getattr(settings, sign, None) is not None for sign in own):
            has_part = is_part and opened is not None and opened.config_class in MODEL_FOR_CAUSAL_LM_MAPPING
            part = ", whose text part alone can be trained: save what AutoModelForCausalLM opens, and give that"
            return f"{name} is {both if reads_text else kind} model{part if has_part else ''}"
    return None if opened is not None else f"{name} is no causal language model of transformers'"


def _causal_class(settings: PretrainedConfig) -> Any:
    """The class that ``AutoModelForCausalLM`` opens a model with, or None."""
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(settings), None)
    return found[0] if isinstance(found, tuple) else found


def _check_pad(source: PolicySource, settings: PretrainedConfig) -> None:
    text = settings.get_text_config()
    pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(rows, int) and not -rows <= pad < rows:
        raise ModelError(
            f"{source.model}: config.json's pad_token_id {pad} is beyond the embedding of {rows} rows, so no library "
            "can open the model; set it to null there"
        )


def _check_attention(settings: PretrainedConfig, config: PolicyConfig) -> None:
    """Have transformers make the model, without weights, with the attention that is asked for."""
    try:
        with quiet_transformers(), torch.device("meta"):
            AutoModelForCausalLM.from_config(
                settings, attn_implementation=config.attention, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:
        raise ModelError(
            f"policy.attention: {config.attention} cannot be used with this model here: {brief(error)}"
        ) from None


def _check_targets(settings: PretrainedConfig, config: PolicyConfig, targets: list[str]) -> None:
    """Have transformers make the model, without weights, and look for every module that an adapter is to be put on."""
    with quiet_transformers(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, trust_remote_code=config.trust_remote_code)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    names = [name for name, _ in model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
            raise ModelError(f"policy.lora.target_modules: the model has no module {target!r}; it has {known}")


def _check_adapter(folder: Path, key: str) -> None:
    check_adapter_folder(folder, key.partition(".")[0] or "policy")
    settings = read_json(folder / ADAPTER_SETTINGS)
    task, kind = settings.get("task_type"), settings.get("peft_type")
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"{key}{folder} was trained for another task ({task} in {ADAPTER_SETTINGS}); an adapter of a causal "
            "language model (CAUSAL_LM) is needed"
        )
    if kind in _VIRTUAL:
        raise ModelError(
            f"{key}{folder} adds virtual tokens ({str(kind).replace('_', ' ').lower()}), which cannot be scored or "
            "trained here; give a LoRA adapter"
        )


def _quantizer(settings: PretrainedConfig) -> str:
    found: Any = settings.quantization_config  # pyright: ignore[reportAttributeAccessIssue]
    content = found if isinstance(found, dict) else found.to_dict()
    return str(content.get("quant_method", "unknown method"))

"""Checks from the settings alone whether a folder or a hub model can be a policy. Reads no weights and runs no code.

Some models that pass attend to later tokens, which only a forward pass shows; ``seralign.policy.abilities`` checks it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from seralign.config import PolicyConfig
from seralign.errors import ModelError, brief
from seralign.policy.heads import LANGUAGE_MODEL, Head
from seralign.policy.identity import (
    ADAPTER_SETTINGS,
    PolicySource,
    check_adapter_folder,
    check_folder,
    read_json,
)
from seralign.policy.order import sees_later, unknown_rope
from seralign.policy.quiet import quiet_transformers
from seralign.policy.settings import model_settings

_NEEDED = "a causal language model is needed"
# The ending of an architecture's name, and the kind of model that it stands for.
_ENDINGS = {
    "ForMaskedLM": "a masked language model, which attends to later tokens",
    "ForPreTraining": "an encoder in pre-training, which attends to later tokens",
    "ForSequenceClassification": "a classifier",
    "ForTokenClassification": "a token classifier",
    "ForMultipleChoice": "a classifier",
    "ForNextSentencePrediction": "a classifier",
    "ForQuestionAnswering": "an extractive question answering model",
    "RewardModel": "a reward model",
    "ForImageClassification": "a vision model",
    "ForAudioClassification": "an audio model",
    "ForCTC": "an audio model",
}
# Settings that only image or audio models have.
_IMAGES = ("vision_config", "vq_config", "image_size", "patch_size", "vision_tower", "num_channels")
_SOUND = (
    "audio_config", "speech_config", "audio_encoder", "audio_encoder_config", "num_mel_bins", "feat_extract_norm",
    "sampling_rate", "audio_channels",
)  # fmt: skip
_TASKS = {"CAUSAL_LM": "causal language model", "SEQ_CLS": "reward model"}
_VIRTUAL = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"}


def check_model(source: PolicySource, config: PolicyConfig, key: str = "policy", head: Head = LANGUAGE_MODEL) -> None:
    """Check that a model is a causal language model that can be trained and scored as configured.

    Args:
        source: Folders or hub names.
        config: How models are loaded.
        key: Section of the configuration that names the model.
        head: What it is trained to say; it may have that head already.

    Raises:
        ModelError: it cannot; the message says what the model is and what to give instead.
    """
    settings = check_kind(source, config, key, head)
    if config.attention is not None:
        _check_attention(settings, config, head)
    if config.lora is not None and isinstance(config.lora.target_modules, list):
        _check_targets(settings, config, head, config.lora.target_modules)
    if key == "policy" and config.dtype == "float16" and source.adapter and config.lora is None:
        _check_parts_of(Path(source.adapter))
    if getattr(settings, "quantization_config", None) is not None and not (source.adapter or config.lora):
        raise ModelError(
            f"{key}.model: quantized weights ({_quantizer(settings)}) cannot be trained; give the model in bfloat16, "
            "float16 or float32, or set policy.lora"
        )


def check_mergeable(source: PolicySource, config: PolicyConfig) -> None:
    """Check that an adapter can be merged into a model's weights.

    Raises:
        ModelError: the weights are quantized, so a merge would round the adapter away.
    """
    settings = model_settings(source, config)
    if getattr(settings, "quantization_config", None) is not None:
        raise ModelError(
            f"{source.model}: an adapter cannot be merged into quantized weights ({_quantizer(settings)}); give the "
            "same model in bfloat16, float16 or float32"
        )


def check_kind(
    source: PolicySource, config: PolicyConfig, key: str = "", head: Head = LANGUAGE_MODEL
) -> PretrainedConfig:
    """Check that a model is a causal language model, and that its adapter belongs to one.

    Args:
        source: Folders or hub names.
        config: How models are loaded.
        key: Section of the configuration that names the model; empty if a command names it.
        head: The head that it is opened with; it may have that head or the one of a language model.

    Returns:
        The model's settings.

    Raises:
        ModelError: it is something else; the message says what, and what to give instead.
    """
    if Path(source.model).is_dir():
        check_folder(Path(source.model), key or "policy")
    try:
        settings = model_settings(source, config)
    except ModelError as error:
        named = key and not str(error).startswith("policy.")
        raise ModelError(f"{key}.model: {error}" if named else str(error)) from None
    what = _other_kind(settings, head)
    if what is not None:
        raise ModelError(f"{f'{key}.model' if key else source.model}: {what}; {_NEEDED}")
    _check_head(settings, head, f"{key}.model: {source.model}" if key else source.model)
    _check_pad(source, settings)
    if why := unknown_rope(settings):
        raise ModelError(f"{f'{key}.model: ' if key else ''}{source.model}: {why}")
    if source.adapter is not None and Path(source.adapter).is_dir():
        _check_adapter(Path(source.adapter), f"{key}.adapter: " if key else "", config, head)
    return settings


def _check_head(settings: PretrainedConfig, head: Head, named: str) -> None:
    """Check that transformers can open the model with a head, and that the head has the right size."""
    if settings.__class__ not in head.families:
        family = type(settings).__name__.removesuffix("Config")
        raise ModelError(
            f"{named}: transformers has no class of {family} for a {head.kind} "
            f"({head.opens.__name__}); give a model of another family, such as llama, qwen or mistral"
        )
    name = next(iter(settings.architectures or ()), "")
    labels = head.options.get("num_labels")
    if labels is not None and name.endswith(head.architectures) and settings.num_labels != labels:
        raise ModelError(
            f"{named}: {name} has {settings.num_labels} labels; a reward model has one (num_labels: 1 in config.json)"
        )


def _other_kind(settings: PretrainedConfig, head: Head) -> str | None:
    """What the model is, if it is neither a causal language model nor one with the given head; else None."""
    family = type(settings).__name__.removesuffix("Config")
    name = next(iter(settings.architectures or ()), family)
    if settings.is_encoder_decoder:
        return f"{family} is an encoder-decoder"
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending) and ending not in head.architectures and not getattr(settings, "is_decoder", False):
            return f"{name} is {kind}"
    if "AutoModelForCausalLM" in (getattr(settings, "auto_map", None) or {}):
        return None
    opened = _causal_class(settings)
    if opened is not None and (why := sees_later(settings)):
        return f"{opened.__name__} {why}"
    is_part = opened is not None and not isinstance(settings, opened.config_class)
    if opened is not None and is_part and opened.__name__ == name:
        return None  # the files hold only the text part, and their settings name it
    reads_text = any(hasattr(settings, part) for part in ("text_config", "vocab_size", "llm_config"))
    for signs, kind, both in ((_IMAGES, "a vision", "a vision-language"), (_SOUND, "an audio", "an audio-language")):
        # Byte models have a patch_size too.
        own = [sign for sign in signs if opened is None or sign != "patch_size"]
        if any(getattr(settings, sign, None) is not None for sign in own):
            has_part = is_part and opened is not None and opened.config_class in MODEL_FOR_CAUSAL_LM_MAPPING
            part = "; only its text part can be trained: load it with AutoModelForCausalLM, save it and give that"
            return f"{name} is {both if reads_text else kind} model{part if has_part else ''}"
    return None if opened is not None else f"transformers has no causal language model for {name}"


def _causal_class(settings: PretrainedConfig) -> Any:
    """The class that ``AutoModelForCausalLM`` uses for a model, or None."""
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(settings), None)
    return found[0] if isinstance(found, tuple) else found


def _check_pad(source: PolicySource, settings: PretrainedConfig) -> None:
    text = settings.get_text_config()
    pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(rows, int) and not -rows <= pad < rows:
        raise ModelError(
            f"{source.model}: pad_token_id {pad} in config.json is outside the vocabulary of {rows} tokens, so the "
            "model cannot be loaded; set it to null"
        )


def _check_attention(settings: PretrainedConfig, config: PolicyConfig, head: Head) -> None:
    """Build the model without weights, with the configured attention."""
    try:
        with quiet_transformers(), torch.device("meta"):
            head.opens.from_config(
                settings, attn_implementation=config.attention, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:
        raise ModelError(
            f"policy.attention: {config.attention} does not work with this model here: {brief(error)}"
        ) from None


def _check_targets(settings: PretrainedConfig, config: PolicyConfig, head: Head, targets: list[str]) -> None:
    """Build the model without weights, and check that it has every module that gets an adapter."""
    with quiet_transformers(), torch.device("meta"):
        model = head.opens.from_config(settings, trust_remote_code=config.trust_remote_code)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    names = [name for name, _ in model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
            raise ModelError(f"policy.lora.target_modules: the model has no module {target!r}; it has {known}")


def _check_adapter(folder: Path, key: str, config: PolicyConfig, head: Head) -> None:
    check_adapter_folder(folder, key.partition(".")[0] or "policy")
    settings = read_json(folder / ADAPTER_SETTINGS)
    task, kind = settings.get("task_type"), settings.get("peft_type")
    wanted = "CAUSAL_LM" if config.merges else head.task  # a merged adapter is a part of the model
    if task not in (None, wanted):
        merges = "; set policy.lora to train a new adapter on both" if task == "CAUSAL_LM" and head.task != task else ""
        raise ModelError(
            f"{key}{folder} was trained for another task ({task} in {ADAPTER_SETTINGS}); give an adapter for a "
            f"{_TASKS[wanted]} ({wanted}){merges}"
        )
    if kind in _VIRTUAL:
        raise ModelError(
            f"{key}{folder} adds virtual tokens ({str(kind).replace('_', ' ').lower()}), which is not supported; "
            "give a LoRA adapter"
        )


def _check_parts_of(adapter: Path) -> None:
    """Reject training whole modules in float16. The low-rank matrices of an adapter are float32 in any case."""
    file = adapter / ADAPTER_SETTINGS
    parts = read_json(file).get("modules_to_save") if file.is_file() else None
    if parts:
        raise ModelError(
            f"policy.dtype: float16 weights cannot be trained, and the adapter {adapter} trains whole modules "
            f"({', '.join(map(str, parts))}); set float32"
        )


def _quantizer(settings: PretrainedConfig) -> str:
    found: Any = settings.quantization_config  # pyright: ignore[reportAttributeAccessIssue]
    content = found if isinstance(found, dict) else found.to_dict()
    return str(content.get("quant_method", "unknown method"))

"""Loading models, adapters and tokenizers, and what they are."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError, one_line
from seralign.policy.abilities import keep_attention
from seralign.policy.identity import PolicySource
from seralign.policy.norms import fuse_norms

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_tokenizer(source: PolicySource, config: PolicyConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a policy, with the configured chat template.

    Raises:
        ModelError: it cannot be loaded, or the configured template is neither a file nor a template.
    """
    name = config.tokenizer or source.model
    revision = None if config.tokenizer else source.revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=config.trust_remote_code)
    except Exception as error:
        raise ModelError(f"policy.tokenizer: no tokenizer can be loaded from {name}: {one_line(error)}") from None
    if config.chat_template is not None:
        path = Path(config.chat_template)
        is_file = "{" not in config.chat_template
        if is_file and not path.is_file():
            raise ModelError(f"policy.chat_template: {path} is neither a file nor a Jinja template")
        tokenizer.chat_template = path.read_text(encoding="utf-8") if is_file else config.chat_template
    return tokenizer


def end_tokens(source: PolicySource, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the tokens that end a response: the tokenizer's and those of the model's generation settings.

    Raises:
        ModelError: neither names one.
    """
    own: Any = tokenizer.eos_token_id
    ids: set[int] = set() if own is None else {own}
    with contextlib.suppress(OSError):
        published: Any = GenerationConfig.from_pretrained(source.model, revision=source.revision or "main").eos_token_id
        ids |= set(published) if isinstance(published, list) else {published} - {None}
    if not ids:
        raise ModelError(f"{source.model}: neither the tokenizer nor the model names an end-of-sequence token")
    return frozenset(ids)


def load_model(
    source: PolicySource, config: PolicyConfig, dtype: str, *, trainable: bool = False, lora: LoraConfig | None = None
) -> nn.Module:
    """A causal language model on this process's device, without dropout.

    Dropout is switched off for good: policy and reference have to agree to the last bit where their weights do.

    Args:
        source: Model and adapter.
        config: How models are loaded.
        dtype: Data type of the weights: float32, bfloat16 or float16.
        trainable: Whether an adapter's weights may train; a full model's always may.
        lora: Put a fresh adapter on the model (its output is unchanged until it is trained).

    Raises:
        ModelError: no such model, weights missing, weights not in safetensors, or the adapter does not fit.
    """
    model: Any = _load_base(source, config, dtype)
    fuse_norms(model)
    if source.adapter is not None:
        model = _load_adapter(model, source, trainable)
    elif lora is not None:
        from peft import LoraConfig as PeftLoraConfig
        from peft import get_peft_model

        try:
            settings = PeftLoraConfig(
                r=lora.r, lora_alpha=lora.alpha, target_modules=lora.target_modules, task_type="CAUSAL_LM"
            )
            with quiet_transformers():
                model = get_peft_model(model, settings)
        except ValueError as error:
            raise ModelError(f"policy.lora.target_modules: {one_line(error)}") from None
    _switch_off_dropout(model)
    if config.attention is not None:
        keep_attention(model)
    return model.to(PartialState().device).eval()


def mixed_precision(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass in a precision other than that of the weights."""
    return contextlib.nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=DTYPES[precision])


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' load reports and bars, and two warnings of PEFT's that no setting of ours answers, away."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _load_base(source: PolicySource, config: PolicyConfig, dtype: str) -> PreTrainedModel:
    options: dict[str, Any] = {} if config.attention is None else {"attn_implementation": config.attention}
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.model,
                revision=source.revision,
                dtype=DTYPES[dtype],
                trust_remote_code=config.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise ModelError(f"no causal language model can be loaded from {source.model}: {one_line(error)}") from None
    model, report = loaded
    missing = sorted(report["missing_keys"]) + [str(key) for key in report.get("mismatched_keys", ())]
    if missing:
        names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise ModelError(f"{source.model}: {len(missing)} weights are missing or misshapen in the files ({names})")
    return model


def _load_adapter(model: PreTrainedModel, source: PolicySource, trainable: bool) -> nn.Module:
    from peft import PeftModel

    adapter = str(source.adapter)
    if Path(adapter).is_dir() and not (Path(adapter) / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter}: no adapter_model.safetensors here; only safetensors are read")
    try:
        with quiet_transformers():
            return PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    except Exception as error:
        raise ModelError(f"no adapter for {source.model} can be loaded from {adapter}: {one_line(error)}") from None


def _switch_off_dropout(model: nn.Module) -> None:
    for module in model.modules():
        # Some models (Falcon, Persimmon) read the rate from their configuration in every forward pass.
        for owner in (module, getattr(module, "config", None)):
            for name, value in vars(owner).items() if owner is not None else ():
                if isinstance(value, float) and ("drop" in name or (name == "p" and isinstance(owner, nn.Dropout))):
                    setattr(owner, name, 0.0)

"""Loading models, adapters and tokenizers."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError, brief
from seralign.hub import silence
from seralign.policy.abilities import keep_attention
from seralign.policy.adapters import fresh_adapter, load_adapter, merged
from seralign.policy.casting import cast_linear_layers, read_not_mapped
from seralign.policy.completeness import check_whole
from seralign.policy.heads import LANGUAGE_MODEL, Head
from seralign.policy.identity import PolicySource, read_json, unasked
from seralign.policy.norms import fuse_norms
from seralign.policy.quiet import quiet_transformers
from seralign.policy.release import free_before
from seralign.policy.settings import OWN_CODE
from seralign.policy.sharding import divide, is_divided
from seralign.records import content_id

_TOKENIZER_SETTINGS = "tokenizer_config.json"
_TOKENIZER_FILES = (
    "tokenizer.json", _TOKENIZER_SETTINGS, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_tokenizer(source: PolicySource, config: PolicyConfig) -> PreTrainedTokenizerBase:
    """Load a policy's tokenizer, with the configured chat template.

    It is ``policy.tokenizer`` if set; else the one saved with the adapter, which may have other tokens or another
    template than the model's; else the model's.

    Raises:
        ModelError: it cannot be loaded, or the configured template is neither a file nor a template.
    """
    name, revision = config.tokenizer or source.model, None if config.tokenizer else source.revision
    if config.tokenizer is None and source.adapter is not None and _has_tokenizer(source.adapter):
        name, revision = source.adapter, None
    why = None if Path(name).is_dir() else silence()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=config.trust_remote_code)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(OWN_CODE.format("tokenizer")) from None
        if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in _TOKENIZER_FILES):
            hint = "give the folder of the tokenizer" if config.tokenizer else "give its folder as policy.tokenizer"
            raise ModelError(f"policy.tokenizer: {name} has no tokenizer; {hint}") from None
        if why is not None:
            raise ModelError(f"policy.tokenizer: {unasked(name, why)}") from None
        raise ModelError(f"policy.tokenizer: cannot load a tokenizer from {name}: {brief(error)}") from None
    if config.chat_template is not None:
        path = Path(config.chat_template)
        is_file = "{" not in config.chat_template
        if is_file and not path.is_file():
            raise ModelError(f"policy.chat_template: {path} is neither a file nor a Jinja template")
        tokenizer.chat_template = path.read_text(encoding="utf-8") if is_file else config.chat_template
    return tokenizer


def end_tokens(source: PolicySource, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the tokens that end a response, from the tokenizer and from the model's generation settings.

    Raises:
        ModelError: neither names one.
    """
    own: Any = tokenizer.eos_token_id
    ids: set[int] = set() if own is None else {own}
    file = Path(source.model) / "generation_config.json"
    if file.is_file():
        read_json(file)  # transformers ignores a broken file
    with contextlib.suppress(OSError):
        published: Any = GenerationConfig.from_pretrained(source.model, revision=source.revision or "main").eos_token_id
        found = published if isinstance(published, list) else [published]
        for number in found:
            if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
                raise ModelError(f"{file}: eos_token_id must be a token id or a list of token ids, got {number!r}")
        ids |= {number for number in found if number is not None and number >= 0}  # -1 means none
    if not ids:
        raise ModelError(f"{source.model}: neither the tokenizer nor the model names an end-of-sequence token")
    return frozenset(ids)


def load_model(
    source: PolicySource,
    config: PolicyConfig,
    dtype: str,
    *,
    trainable: bool = False,
    lora: LoraConfig | None = None,
    head: Head = LANGUAGE_MODEL,
    divided: str | None = None,
    scores_in: str | None = None,
) -> nn.Module:
    """Load a causal model with its head on this process's device, with dropout off.

    Dropout stays off in training too, so that policy and reference agree to the last bit while their weights do.

    Args:
        source: Model and adapter.
        config: How models are loaded.
        dtype: Data type of the weights: float32, bfloat16 or float16.
        trainable: Whether an adapter's weights may train. The weights of a full model always may.
        lora: Add a new adapter, which changes no output until it is trained. An adapter of ``source`` is merged into
            the model first.
        head: What the model says of a response. A head that the model lacks is initialised at random, and takes the
            place of its own.
        divided: Divide it over the processes, to compute in this precision; None keeps it whole in each.
        scores_in: The model will only score, without gradient and in this mixed precision, so float32 weights of its
            linear layers are cast once. A divided model casts them where they are gathered.

    Raises:
        ModelError: no such model, weights missing or not in safetensors, or an adapter that does not fit.
    """
    load = partial(_load, source, config, dtype, trainable, lora, head, divided)
    if scores_in is None or scores_in == "float32" or dtype != "float32" or divided is not None:
        return load()
    with read_not_mapped():
        model = load()
    if not cast_linear_layers(model, DTYPES[scores_in]):
        del model
        return load()
    free_before(Path(source.model))
    return model


def _load(
    source: PolicySource,
    config: PolicyConfig,
    dtype: str,
    trainable: bool,
    lora: LoraConfig | None,
    head: Head,
    divided: str | None,
) -> nn.Module:
    free_before(Path(source.model))
    model: Any = _load_base(source, config, dtype, head)
    fuse_norms(model)
    if source.adapter is not None:
        model = load_adapter(model, source, trainable)
        model = model if lora is None else merged(model, source)
    if lora is not None:
        model = fresh_adapter(model, lora, head.task)
    _switch_off_dropout(model)
    if config.attention is not None:
        keep_attention(model)
    if divided is None:
        return model.to(PartialState().device).eval()
    return divide(model, None if divided == "float32" else DTYPES[divided]).eval()


def mixed_precision(precision: str, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Autocast context for a forward pass in ``precision``; does nothing for float32, and for a divided model, whose
    weights are cast where they are gathered."""
    if precision == "float32" or is_divided(model):
        return contextlib.nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=DTYPES[precision])


def _load_base(source: PolicySource, config: PolicyConfig, dtype: str, head: Head) -> PreTrainedModel:
    options: dict[str, Any] = {} if config.attention is None else {"attn_implementation": config.attention}
    try:
        with quiet_transformers():
            loaded: Any = head.opens.from_pretrained(
                source.model,
                revision=source.revision,
                dtype=DTYPES[dtype],
                trust_remote_code=config.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # check_whole reports them in one line
                **head.options,
                **options,
            )
    except Exception as error:
        raise ModelError(f"cannot load a {head.kind} from {source.model}: {brief(error)}") from None
    model, report = loaded
    begins = [name for name in report["missing_keys"] if head.added.fullmatch(name)]
    check_whole(source, model.config, report, head.added, head.dropped)
    if begins:
        head.begin(model)
    return model


def _has_tokenizer(adapter: str) -> bool:
    """Whether a tokenizer was saved with an adapter."""
    if Path(adapter).is_dir():
        return (Path(adapter) / _TOKENIZER_SETTINGS).is_file()
    return (
        cached_file(
            adapter,
            _TOKENIZER_SETTINGS,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        is not None
    )


def _switch_off_dropout(model: nn.Module) -> None:
    for module in model.modules():
        # Some models (Falcon, Persimmon) read the rate from their configuration in every forward pass.
        for owner in (module, getattr(module, "config", None)):
            for name, value in vars(owner).items() if owner is not None else ():
                if isinstance(value, float) and ("drop" in name or (name == "p" and isinstance(owner, nn.Dropout))):
                    setattr(owner, name, 0.0)


def tokenizer_inputs(tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> dict[str, str]:
    """Digests of the tokenizer and end tokens, for a stage that tokenizes, decodes or saves the tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return {
        "policy.tokenizer": content_id([content, tokenizer.chat_template, str(tokenizer.special_tokens_map)]),
        "policy.model's end tokens": content_id(sorted(end_tokens)),
    }

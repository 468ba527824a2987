"""A check that a model's files hold exactly the weights that its settings describe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from seralign.errors import ModelError
from seralign.policy.heads.base import NOTHING
from seralign.policy.identity import SETTINGS, PolicySource, open_tensors, weight_files

# Tensors that old versions of transformers saved needlessly: rotary frequencies and causal masks.
_DERIVED = re.compile(
    r"(^|\.)(rotary_emb\.\w+|inv_freq|position_ids|(attn|attention|self_attention)\.(bias|masked_bias))$"
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


def check_whole(
    source: PolicySource,
    settings: PretrainedConfig,
    report: Any,
    added: re.Pattern[str] = NOTHING,
    dropped: re.Pattern[str] = NOTHING,
) -> None:
    """Check that a model's files and settings describe the same weights.

    transformers itself initialises missing weights at random and ignores superfluous ones. With a ``config.json`` of
    too few layers it would train only a part of the model.

    Args:
        source: Named in errors.
        settings: Settings that the model was built from.
        report: Loading info of ``from_pretrained(..., output_loading_info=True)``, with mismatched sizes ignored.
        added: Names of weights that may be missing, those of a new head.
        dropped: Names of weights that may be left over, those of another head.

    Raises:
        ModelError: weights are missing, left over or of another shape; names some of them and the setting.
    """
    text = settings.get_text_config()
    misshapen = sorted(report["mismatched_keys"])
    if misshapen:
        name, found, wanted = misshapen[0]
        keys = _settings_of(text, {*wanted} - {*found})
        raise ModelError(
            f"{source.model}: {len(misshapen)} weights do not have the shape that {SETTINGS} gives: {name} is "
            f"{_shape(found)} in the files and {_shape(wanted)} by {SETTINGS}{f' (see {keys})' if keys else ''}"
        )
    if missing := sorted(key for key in report["missing_keys"] if not added.fullmatch(key)):
        raise ModelError(
            f"{source.model}: {len(missing)} weights are missing in the files ({_some(missing)}){_depth(source, text)}"
        )
    unknown = (key for key in report["unexpected_keys"] if not _DERIVED.search(key) and not dropped.fullmatch(key))
    if left_over := sorted(unknown):
        raise ModelError(
            f"{source.model}: the files hold {len(left_over)} weights that {SETTINGS} does not describe "
            f"({_some(left_over)}){_depth(source, text) or f'; give the {SETTINGS} that belongs to these weights'}"
        )


def _depth(source: PolicySource, text: PretrainedConfig) -> str:
    """A note on the number of layers if settings and files differ in it."""
    key = text.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    said = getattr(text, key, None)
    layers = {int(found[1]) for name in _names(source) if (found := _LAYER.search(name))}
    if not isinstance(said, int) or not layers or max(layers) + 1 == said:
        return ""
    return f": {SETTINGS} says {key} {said}, and the files have {max(layers) + 1} layers"


def _names(source: PolicySource) -> set[str]:
    """Names of the tensors in a model's files; empty if the model is not a folder."""
    found: set[str] = set()
    for file in weight_files(Path(source.model)) if Path(source.model).is_dir() else ():
        with open_tensors(file) as tensors:
            found |= set(tensors.keys())
    return found


def _settings_of(text: PretrainedConfig, sizes: set[int]) -> str:
    """Names of the settings that have one of these values."""
    found = [key for key, value in text.to_dict().items() if type(value) is int and value in sizes]
    return " or ".join(f"{key} {getattr(text, key)}" for key in sorted(found)[:3])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _shape(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))

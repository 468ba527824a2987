"""What stages read beside tables and weights, as digests by name: settings by their key, and the tokenizer."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce
from operator import getitem

from transformers import PreTrainedTokenizerBase

from seralign.config import RunConfig, SamplingConfig, to_dict
from seralign.objectives import OBJECTIVES
from seralign.plugins import source_of
from seralign.records import content_id

# How rows of text become tokens.
ENCODING = (
    "data.max_length", "data.max_prompt_length", "data.overlong", "data.format", "data.as_chat", "data.system",
    "data.roles", "data.chat_template_kwargs",
)  # fmt: skip
# How a model is loaded and run.
FORWARD = ("policy.dtype", "policy.attention", "policy.trust_remote_code")
# How responses get their log-probabilities. The precision and the company of a row count to the last bit.
SCORING = (*FORWARD, "scoring.dtype", "scoring.tokens_per_pack")


def settings(config: RunConfig, *keys: str) -> dict[str, str]:
    """Digests of settings by their dotted key, a section whole. Where a null stands for a value, it is that value's.

    With ``objective`` comes the source of each objective class of the user's own.
    """
    values = to_dict(config.resolved())
    found = {key: content_id(reduce(getitem, key.split("."), values)) for key in keys}
    if "objective" in keys:
        own = {term.name: type(term.objective) for term in config.objective.terms if term.name not in OBJECTIVES}
        found |= {f"source of {name}": content_id(source_of(kind, name)) for name, kind in own.items()}
    return found


def sampling_keys(section: str) -> list[str]:
    """The keys of a section that say how it samples."""
    return [f"{section}.{field.name}" for field in fields(SamplingConfig)]


def tokenizer_inputs(tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> dict[str, str]:
    """Digests of what a stage reads that tokenizes, decodes, or saves the tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return {
        "policy.tokenizer": content_id([content, tokenizer.chat_template, str(tokenizer.special_tokens_map)]),
        "policy.model's end tokens": content_id(sorted(end_tokens)),
    }

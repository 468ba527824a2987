"""What stages read besides tables and weights, as digests by name: settings by key, and the tokenizer."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce
from operator import getitem

from seralign.config import RunConfig, SamplingConfig, to_dict
from seralign.objectives import OBJECTIVES
from seralign.plugins import source_of
from seralign.records import content_id

# Settings for turning text rows into tokens.
ENCODING = (
    "data.max_length", "data.max_prompt_length", "data.overlong", "data.format", "data.as_chat", "data.system",
    "data.roles", "data.chat_template_kwargs",
)  # fmt: skip
# Settings for loading and running a model.
FORWARD = ("policy.dtype", "policy.attention", "policy.trust_remote_code")
# Settings for log-probabilities. Precision and packs change the last bits.
SCORING = (*FORWARD, "scoring.dtype", "scoring.tokens_per_pack")


def settings(config: RunConfig, *keys: str) -> dict[str, str]:
    """Digests of settings by dotted key; a section is one digest. A null that stands for another value gets that one's.

    ``objective`` includes the source of each user-defined objective class.
    """
    values = to_dict(config.resolved())
    found = {key: content_id(reduce(getitem, key.split("."), values)) for key in keys}
    if "objective" in keys:
        own = {term.name: type(term.objective) for term in config.objective.terms if term.name not in OBJECTIVES}
        found |= {f"source of {name}": content_id(source_of(kind, name)) for name, kind in own.items()}
    return found


def sampling_keys(section: str) -> list[str]:
    """The keys of a section that determine its sampling."""
    return [f"{section}.{field.name}" for field in fields(SamplingConfig)]

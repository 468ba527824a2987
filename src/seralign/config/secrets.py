"""Refuse secrets in a configuration, because every run stores it in clear text."""

from __future__ import annotations

import re
from typing import Any

from seralign.errors import ConfigError

_NAME = re.compile(
    r"(?:^|[_\-.])(?:token|secret|password|passwd|passphrase|credentials?|api_?key|access_?key|private_?key)(?:$|[_\-.])",
    re.IGNORECASE,
)
# Tokens with well-known prefixes; keys of Weights & Biases are 40 hex digits.
_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_\-]{16,}|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w\-]{16,}|\bAKIA[A-Z0-9]{16}\b|\bAIza[\w\-]{30,}|\bxox[abprs]-[\w\-]{10,}|\bwandb_v\d+_\w{16,}"
    r"|^[0-9a-f]{40}$|\beyJ[\w\-]{10,}\.[\w\-]{10,}\.|-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s@]+@"
)
_ADVICE = (
    "this looks like a secret, and a run stores its configuration in clear text; remove it, and set it in the "
    "environment (HF_TOKEN, WANDB_API_KEY …)"
)


def refuse_secrets(values: Any, key: str) -> None:
    """Raise ``ConfigError`` for values that look like secrets, by name or by form. Names the key, not the value."""
    if isinstance(values, dict):
        for name, value in values.items():
            path = f"{key}.{name}"
            if value not in (None, "") and not isinstance(value, bool | dict | list) and _NAME.search(str(name)):
                raise ConfigError(f"{path}: {_ADVICE}")
            refuse_secrets(value, path)
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            refuse_secrets(value, f"{key}[{number}]")
    elif isinstance(values, str) and _VALUE.search(values):
        raise ConfigError(f"{key}: {_ADVICE}")

"""Refuse secrets in a configuration, because every run stores it in clear text."""

from __future__ import annotations

import re
from typing import Any

from seralign.errors import ConfigError

# Words of a name, with _ around each, that say what its value is.
_NAME = re.compile(
    r"_(?:secret|password|passwd|passphrase|pwd|credentials?|cookies?|bearer|authorization|api_?key|access_?key"
    r"|private_?key|(?:user|db|proxy|login|smtp)_pass)_|^_pass_$|_auth_(?:header_|value_)?$|_token_(?:value_|secret_)?$"
)
# A key of something or other: OPENAI_KEY. Some tell what is looked up rather than what unlocks.
_KEY = re.compile(r"_(?P<of>[a-z0-9]+)_key_$")
_LOOKUPS = {
    "answer", "cache", "column", "dict", "field", "foreign", "group", "input", "json", "label", "message", "metric",
    "output", "partition", "primary", "prompt", "public", "response", "result", "row", "score", "sort", "text",
}  # fmt: skip
# A token of a text rather than one that opens a door; and names that say where the secret is.
_TEXT_TOKEN = re.compile(
    r"_(?:pad|padding|stop|eos|bos|end|start|begin|unk|sep|cls|mask|special|image|audio|prefix|suffix|think|thinking"
    r"|per|first|next|last|new|max|min|num|role|turn|fim|decoder)_token_$"
)
_ELSEWHERE = re.compile(r"_(?:file|path|env|var|variable|name|type|user|username|command)_$")
_NO_VALUE = re.compile(
    r"|none|null|empty|basic|bearer|digest|oauth2?|\$\{?\w+\}?|env:\w+|os\.environ/\w+|<[\w |]+>", re.I
)
# Tokens by the prefixes that their issuers give them, for scanners to find; keys of Weights & Biases are 40 hex digits.
_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bapi_org_\w{16,}|\bsk[-_][A-Za-z0-9_\-]{16,}|\bgh[opsur]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_\w{20,}|\bglpat-[\w\-]{16,}|\bA[KS]IA[A-Z0-9]{16}\b|\bAIza[\w\-]{30,}|\bya29\.[\w\-]{16,}"
    r"|\bxox[a-z]-[\w\-]{10,}|\bwandb_v\d+_\w{16,}|\bgsk_\w{16,}|\btgp_\w{16,}|\br8_\w{16,}|\bnvapi-[\w\-]{16,}"
    r"|\bpplx-\w{16,}|\bxai-\w{16,}|\bfw_\w{16,}|\bnpm_\w{20,}|\bpypi-[\w\-]{20,}|\bdop_v1_\w{16,}|\bSG\.[\w\-]{16,}\."
    r"|^[0-9a-f]{40}$|\beyJ[\w\-]{10,}\.[\w\-]{10,}\.|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|^(?:Bearer|Basic|Token)\s+[\w\-.=+/~]+$|\bBearer\s+(?=\S*\d)[\w\-.=+/~]{12,}"
    r"|://(?!git@)[^/\s@?#]+@"
)
# A name with its value inside a text: of a URL's query or a connection, and of a header.
_PAIRS = (
    re.compile(r"(?P<name>[\w\-.]+)=(?P<value>[^\s&,;#]+)"),
    re.compile(r"^\s*(?P<name>[\w\-]+)\s*:\s*(?P<value>(?:(?:Bearer|Basic|Token)\s+)?\S+)\s*$"),
)
_ADVICE = (
    "this looks like a secret, and a run stores its configuration in clear text; remove it, and set it in the "
    "environment (HF_TOKEN, WANDB_API_KEY …); for a server, api_key_env names the variable with its key"
)


def refuse_secrets(values: Any, key: str) -> None:
    """Raise ``ConfigError`` for values that look like secrets, by name or by form. Names the key, not the value."""
    _refuse(values, key, named=False)


def _refuse(values: Any, key: str, named: bool) -> None:
    """``named``: whether a name above says that the values are a secret."""
    if isinstance(values, dict):
        for name, value in values.items():
            words = _words(str(name))
            _refuse(value, f"{key}.{name}", _is_secret(words) or (named and not _ELSEWHERE.search(words)))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            _refuse(value, f"{key}[{number}]", named)
    elif values is not None and not isinstance(values, bool):
        text = str(values)
        if (named and not _NO_VALUE.fullmatch(text)) or (isinstance(values, str) and _holds_secret(text)):
            raise ConfigError(f"{key}: {_ADVICE}")


def _words(name: str) -> str:
    """The words of a name in lower case, with ``_`` around each: ``clientSecret`` is ``_client_secret_``."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return f"_{'_'.join(part for part in re.split(r'[^A-Za-z0-9]+', parts) if part)}_".lower()


def _is_secret(words: str) -> bool:
    if _ELSEWHERE.search(words) or _TEXT_TOKEN.search(words):
        return False
    of = _KEY.search(words)
    return _NAME.search(words) is not None or (of is not None and of["of"] not in _LOOKUPS)


def _holds_secret(text: str) -> bool:
    if _VALUE.search(text):
        return True
    pairs = [found for pattern in _PAIRS for found in pattern.finditer(text)]
    return any(_is_secret(_words(found["name"])) and not _NO_VALUE.fullmatch(found["value"]) for found in pairs)

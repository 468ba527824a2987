"""How an OpenAI-compatible server is reached. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from seralign.checks import positive, require
from seralign.config.secrets import refuse_secrets
from seralign.errors import ConfigError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATHS = ("/chat/completions", "/completions", "/embeddings", "/models")


@dataclass(frozen=True)
class ServerConfig:
    """An OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, ``transformers serve``, or an API on the internet.

    Args:
        url: Base address, usually ending in ``/v1``: ``http://localhost:8000/v1``.
        model: Name of the model, as the server lists it under ``/models``.
        api_key_env: Name of the environment variable with the API key. Default: ``OPENAI_API_KEY``, if it is set. The
            key itself is never part of a configuration.
        parallel: Number of requests at the same time.
        timeout: Seconds to wait for an answer.
        retries: How often a failed request is sent again, with growing waits. Requests that time out, that do not
            reach the server, or that it answers with status 429 or 5xx, are sent again.
        requests_per_minute: Rate limit. Requests are spread evenly over the minute.
        tokens_per_minute: Rate limit, of tokens of prompts and answers together.
    """

    url: str
    model: str
    api_key_env: str | None = None
    parallel: int = 8
    timeout: float = 120.0
    retries: int = 5
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        refuse_secrets({"url": self.url, "model": self.model}, "server")
        _check_url(self.url)
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            # The value may be the key itself, so it is not shown.
            raise ConfigError("api_key_env must be the name of an environment variable, such as OPENAI_API_KEY")
        require(1 <= self.parallel <= 1024, "parallel", "in [1, 1024]", self.parallel)
        positive(self.timeout, "timeout")
        require(0 <= self.retries <= 100, "retries", "in [0, 100]", self.retries)
        if self.requests_per_minute is not None:
            positive(self.requests_per_minute, "requests_per_minute")
        if self.tokens_per_minute is not None:
            positive(self.tokens_per_minute, "tokens_per_minute")


@dataclass(frozen=True)
class PricesConfig:
    """Prices of a server's tokens, in any currency.

    Args:
        prompt: Price of a million tokens of prompts.
        completion: Price of a million tokens of answers.
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        require(self.prompt >= 0, "prompt", "at least 0", self.prompt)
        require(self.completion >= 0, "completion", "at least 0", self.completion)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, known = urlsplit(""), False
    require(known and not re.search(r"\s", url), "url", "an address such as http://localhost:8000/v1", url)
    require(not parts.query and not parts.fragment, "url", "a base address without ? and #", url)
    for path in _PATHS:
        if parts.path.rstrip("/").endswith(path):
            raise ConfigError(f"url must be the base address, without {path}, got {url!r}")

"""What is taken for a secret in settings that are passed on, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.config import SamplingConfig
from seralign.config.secrets import refuse_secrets
from seralign.errors import ConfigError

RANDOM = "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"headers": {"X-Api-Key": "abc"}}, "headers.X-Api-Key"),
        ({"headers": {"Authorization": "Bearer abcdefghijkl123"}}, "headers.Authorization"),
        ({"headers": ["Authorization: Bearer abcdef123456"]}, "headers[0]"),
        ({"headers": ["X-Api-Key: abcdef"]}, "headers[0]"),
        ({"header": "Bearer abcdef"}, "header"),
        ({"clientSecret": "abc"}, "clientSecret"),
        ({"accessToken": "abc"}, "accessToken"),
        ({"secretAccessKey": "abc"}, "secretAccessKey"),
        ({"apiKey": "abc"}, "apiKey"),
        ({"apikey": "abc"}, "apikey"),
        ({"cookie": "abc"}, "cookie"),
        ({"auth": "abc"}, "auth"),
        ({"auth": ["user", "abc"]}, "auth[0]"),
        ({"auth": {"user": "me", "pass": "abc"}}, "auth.pass"),
        ({"bearer": "abc"}, "bearer"),
        ({"pwd": "abc"}, "pwd"),
        ({"pass": "abc"}, "pass"),
        ({"OPENAI_KEY": "abc"}, "OPENAI_KEY"),
        ({"azure_key": "abc"}, "azure_key"),
        ({"token": ["abc"]}, "token[0]"),
        ({"token": {"value": "abc"}}, "token.value"),
        ({"token": 123}, "token"),
        ({"url": "https://host/x?token=abc"}, "url"),
        ({"url": "https://host/x?a=b&api_key=abc"}, "url"),
        ({"url": "https://abc@host/x"}, "url"),
        ({"url": "postgres://me:abc@host/db"}, "url"),
        ({"connection": "host=here password=abc"}, "connection"),
        ({"value": "gsk_" + RANDOM}, "value"),
        ({"value": "tgp_v1_" + RANDOM}, "value"),
        ({"value": "sk-" + RANDOM}, "value"),
        ({"value": "hf_" + RANDOM}, "value"),
        ({"value": "xoxe-" + RANDOM}, "value"),
    ],
)
def test_a_secret_is_refused_with_its_key_and_without_its_value(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_secrets(settings, "options")
    assert str(caught.value).startswith(f"options.{key}: this looks like a secret")
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_token": "<pad>", "stop_token": "</s>", "eos_token": "<end>", "bosToken": "<s>"},
        {"max_tokens": 5, "tokens": 7, "token_budget": 100, "max_new_tokens": 3},
        {"token_file": "/run/secrets/x", "api_key_env": "OPENAI_API_KEY", "password_file": "x", "secret_name": "x"},
        {"api_key": None, "token": "", "use_auth": True, "auth": {"type": "env", "name": "KEY"}},
        {"api_key": "EMPTY", "token": "$HF_TOKEN", "secret": "${SECRET}", "auth": "basic"},
        {"sort_key": "score", "cache_key": "x", "key": "answer", "compass": "north", "pass_at": 3},
        {"url": "https://host/v1?limit=3", "git": "ssh://git@host/x", "mail": "me@host"},
        {"instructions": "Basic arithmetic: is the token right? Bearer of news. Which is better: first or second?"},
    ],
)
def test_what_is_no_secret_is_taken(settings: dict[str, Any]) -> None:
    refuse_secrets(settings, "options")
    assert SamplingConfig(engine_options=settings).engine_options == settings

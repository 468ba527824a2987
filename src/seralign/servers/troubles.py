"""What went wrong with a request, and whether it is worth sending it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from seralign.config.server import ServerConfig
from seralign.errors import brief

if TYPE_CHECKING:
    from openai import APIStatusError

_AGAIN = {408, 409, 425, 429}
# The last is what ``transformers serve`` says if it serves one model.
_NO_MODEL = re.compile(
    r"model.{0,120}(not found|not exist|unknown|invalid)|not a valid model|(unknown|invalid) model"
    r"|server is pinned to", re.I
)  # fmt: skip
# Codes of a request with a key that the model does not take, or not with this value.
_NOT_TAKEN = ("unsupported_parameter", "unsupported_value")


class NotAnAnswer(Exception):
    """The server answered with something that is not an answer of the OpenAI API. The request is sent again."""


@contextmanager
def reading_answer(found: object) -> Iterator[None]:
    """Report what fails while an answer is read as ``NotAnAnswer``: ``openai`` passes on whatever JSON came."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise NotAnAnswer(str(found)) from None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request failed.

    Args:
        reason: The reason in a few words.
        again: Whether the same request may succeed later.
        wait: Seconds that the server asks to wait.
        fatal: The end of a message about the configuration key that is wrong, if no request can succeed.
    """

    reason: str
    again: bool = False
    wait: float | None = None
    fatal: str | None = None


def trouble_of(error: Exception, settings: ServerConfig, variable: str) -> Trouble | None:
    """What an exception of a request means; ``None`` if it is none of a request.

    Args:
        error: The exception.
        settings: The server.
        variable: The environment variable with the key, for messages.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Trouble(f"no answer within {settings.timeout:g} s", again=True)
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, settings, variable)
    if isinstance(error, openai.APIResponseValidationError | json.JSONDecodeError | NotAnAnswer):
        return Trouble(f"not an answer of the OpenAI API: {brief(error, 150)}", again=True)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        return Trouble(f"no connection: {brief(cause if isinstance(cause, Exception) else error, 150)}", again=True)
    return None


def _of_status(error: APIStatusError, settings: ServerConfig, variable: str) -> Trouble:
    status, says = error.status_code, _says(error)
    reason = f"status {status}: {says}"
    if status in (401, 403):
        which = f"the key in {variable}" if variable else "a request without a key"
        return Trouble(reason, fatal=f"api_key_env: {settings.url} refuses {which} ({reason}); "
                                     "set it to the environment variable with a key for this server")  # fmt: skip
    if status == 402 or (status == 429 and "insufficient_quota" in (error.code, error.type)):
        return Trouble(reason, fatal=f"url: {settings.url} wants to be paid first ({reason})")
    if error.code == "model_not_found" or (status in (400, 404, 422) and _NO_MODEL.search(says)):
        return Trouble(reason, fatal=f"model: {settings.url} has no model {settings.model!r} ({reason})")
    if error.code in _NOT_TAKEN and error.param:
        return Trouble(reason, fatal=f"model: {settings.model} at {settings.url} does not take {error.param} as it is "
                                     f"set ({reason}); set another value, or use another model")  # fmt: skip
    if status in (404, 405):
        return Trouble(reason, fatal=f"url: {settings.url} does not have the OpenAI API ({reason}); "
                                     "it must be the base address, which usually ends in /v1")  # fmt: skip
    return Trouble(reason, again=status in _AGAIN or (status >= 500 and status != 501), wait=_wait(error))


def _says(error: APIStatusError) -> str:
    """The message in the body of an error; servers have several forms of it."""
    body: Any = error.body
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, dict | list):
        body = json.dumps(body)
    return brief(ValueError(str(body or error.response.reason_phrase or "no explanation")), 200)


def _wait(error: APIStatusError) -> float | None:
    """The value of ``Retry-After``: seconds, or a date."""
    headers = error.response.headers
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    try:
        until = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())

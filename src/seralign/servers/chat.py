"""Chat completions of an OpenAI-compatible server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seralign.servers.troubles import NotAnAnswer, reading_answer
from seralign.servers.usage import Used, reported

if TYPE_CHECKING:
    from openai import OpenAI

Messages = Sequence[Mapping[str, Any]]
# What replaces ``max_tokens`` where a model refuses that name.
_LIMIT, _OTHER_LIMIT = "max_tokens", "max_completion_tokens"


@dataclass(frozen=True)
class ChatSettings:
    """How answers are sampled.

    Args:
        model: Name of the model.
        max_tokens: Maximum number of tokens of an answer.
        temperature: Sampling temperature.
        top_p: Nucleus sampling.
        seed: Seed of the server's sampling, if it has one.
        top_logprobs: Number of alternatives of each token to return with their log-probabilities.
        extra: Other keys of the request.
    """

    model: str
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    seed: int | None = None
    top_logprobs: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a chat model.

    Args:
        text: The text; empty if the model refused to write one.
        finished: Whether the model ended it. False if it was cut at ``max_tokens``.
        tops: For each token, the most probable alternatives with their log-probabilities in nats. None if the server
            returned none.
        usage: Tokens of the request. None if the server did not report them.
    """

    text: str
    finished: bool
    tops: tuple[tuple[tuple[str, float], ...], ...] | None
    usage: Used | None


def chat(settings: ChatSettings) -> Callable[[OpenAI, Messages], Reply]:
    """A function for ``Client.map`` that sends messages and returns the reply.

    If the model refuses ``max_tokens`` and names ``max_completion_tokens`` as its other name, the request is sent again
    with that, and so are all later ones.
    """
    keys: dict[str, Any] = {"model": settings.model, "temperature": settings.temperature, "top_p": settings.top_p}
    if _OTHER_LIMIT not in settings.extra:
        keys[_LIMIT] = settings.max_tokens
    if settings.seed is not None:
        keys["seed"] = settings.seed
    if settings.top_logprobs is not None:
        keys |= {"logprobs": True, "top_logprobs": settings.top_logprobs}

    renamed = {_OTHER_LIMIT if key == _LIMIT else key: value for key, value in keys.items()}
    refused = threading.Event()

    def ask(api: OpenAI, messages: Messages) -> Reply:
        from openai import BadRequestError

        given: dict[str, Any] = {"messages": list(messages), "extra_body": dict(settings.extra)}
        if not refused.is_set():
            try:
                return _reply(api.chat.completions.create(**given, **keys))
            except BadRequestError as error:
                if _LIMIT not in keys or _OTHER_LIMIT not in str(error):
                    raise
            refused.set()
        return _reply(api.chat.completions.create(**given, **renamed))

    return ask


def _reply(found: Any) -> Reply:
    """Check the form of an answer: ``openai`` passes on whatever JSON the server wrote.

    Raises:
        NotAnAnswer: It is no chat completion.
    """
    with reading_answer(found):
        choice = found.choices[0]
        text, finish = choice.message.content, choice.finish_reason
        content = None if choice.logprobs is None else choice.logprobs.content
        tops = None
        if content:
            tops = tuple(tuple((top.token, float(top.logprob)) for top in token.top_logprobs) for token in content)
    if not isinstance(text, str | None):
        raise NotAnAnswer(str(found))
    return Reply(text or "", finish != "length", tops, reported(found))

"""Finds out how a server is asked, and proves that it serves the weights of a policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from seralign.config.engines import Mode, ServerEngineConfig, Software
from seralign.errors import ConfigError
from seralign.policy.sampling import SamplingParams
from seralign.progress import say
from seralign.sampling.base import SampledPolicy
from seralign.sampling.probe import Own, departure
from seralign.sampling.stale import answers_alike, nearness
from seralign.sampling.wire import Question, Reply, Way, ask, echoed
from seralign.servers.client import Client, ServerFailure
from seralign.servers.troubles import reading_answer

if TYPE_CHECKING:
    from openai import OpenAI

_OWNERS: dict[str, Software] = {
    "vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "library": "ollama",
}  # fmt: skip
# How prompts are sent, in the order of what is tried. Ollama renders texts by its own template.
_MODES: dict[Software, tuple[Mode, ...]] = {
    "vllm": ("tokens", "text", "messages"),
    "sglang": ("tokens", "text", "messages"),
    "llama.cpp": ("tokens", "text", "messages"),
    "ollama": ("messages",),
    "transformers": ("text", "messages"),
    "other": ("tokens", "text", "messages"),
}
# Reasons of failures that say that there is no server.
_UNREACHED = re.compile("no connection|no answer within")
_TOLERANCES = {"float32": 0.01}
_TOLERANCE = 0.1


@dataclass(frozen=True)
class _Listed:
    """The models of a server as (id, owner, folder)."""

    models: tuple[tuple[str, str, str], ...]
    usage: None = None


@dataclass(frozen=True)
class _Echo:
    logps: list[float] | None
    usage: None = None


def connect(client: Client, options: ServerEngineConfig, policy: SampledPolicy, own: Sequence[Own], key: str) -> Way:
    """The way to ask a server.

    Args:
        client: The server.
        options: The options of the engine.
        policy: The policy that it must serve.
        own: The policy's own answers to some prompts.
        key: The configuration key of the options, for messages.

    Raises:
        ConfigError: the server does not answer, reads other prompts than the policy, or serves other weights.
    """
    listed = _listed(client, key)
    software: Software = options.software
    if software == "auto":
        software = _known(listed) or _other(client)
    tried: list[str] = []
    refused: ConfigError | None = None
    for way in _ways(client.settings.model, software, options, policy, own):
        try:
            replies = _greedy(client, way, policy, own)
        except ConfigError as error:
            refused = error
            continue
        if not isinstance(replies, str):
            others = [] if policy.before is None else [policy.before]
            prove(client, way, policy, others, own, replies, options.tolerance, key)
            return way
        tried.append(f"as {way.mode}: {replies}")
    if refused is not None and not tried:
        raise refused
    names = [name for name, _, _ in listed.models]
    model = client.settings.model
    if names and model not in names and tried and all(": status " in one for one in tried):
        raise ConfigError(
            f"{key}.model: {client.settings.url} has no model {model!r} ({tried[0]}); it has {', '.join(names[:10])}"
        )
    why = "; ".join(dict.fromkeys(tried)) or "the prompts are no conversations, and it takes nothing else"
    raise ConfigError(f"{key}: {client.settings.url} does not read the prompts as {policy.name} does: {why}")


def prove(
    client: Client,
    way: Way,
    policy: SampledPolicy,
    others: Sequence[SampledPolicy],
    own: Sequence[Own],
    replies: Sequence[Reply],
    tolerance: float | None,
    key: str,
) -> None:
    """Compare a server with a policy, by log-probabilities where it gives them, else by greedy answers.

    Args:
        client: The server.
        way: How it is asked.
        policy: The policy.
        others: Policies that the server may serve in its place, such as the one before. Each is loaded and released.
        own: The policy's own answers.
        replies: The server's greedy answers to the same prompts.
        tolerance: Nats of difference that pass for rounding; None for the default.
        key: The configuration key, for messages.

    Raises:
        ConfigError: it serves other weights, or those of one of the others; names both.
    """
    limit = tolerance if tolerance is not None else _TOLERANCES.get(policy.dtype, _TOLERANCE)
    served = _logps(client, way, own, key) if way.mode == "tokens" else None
    is_sure = True
    if served is not None:
        for other in others:
            near = nearness(other, own, served)
            if near is not None and near.is_stale:
                raise ConfigError(
                    f"{key}: {client.settings.url} still serves the weights of {other.name} ({other.source}) "
                    f"in place of those of {policy.name} ({policy.source}); serve that folder"
                )
            is_sure = is_sure and (near is None or near.is_sure)
        pairs = zip(own, served, strict=True)
        # A difference that is not a number is none that passes.
        far = [difference for one, logps in pairs if not (difference := one.mean_difference(logps)) <= limit]
        why = f"log-probabilities differ by {max(far):.3g} nats a token" if far else None
    else:
        given = zip(own, replies, strict=True)
        found = (departure(policy, one, reply.choices[0], limit) for one, reply in given)
        why = next((each for each in found if each is not None), None)
    if why is not None:
        raise ConfigError(
            f"{key}: {client.settings.url} does not serve the weights of {policy.name} ({policy.source}), but "
            f"{_served(client, key)}: {why}. Serve that folder, or raise tolerance ({limit:g}) if the server computes "
            "in a lower precision"
        )
    if served is None:
        is_sure = not any(answers_alike(policy, other, own, limit) for other in others)
    if not is_sure:
        say(
            f"warning: {key}: {client.settings.url} may serve the weights of {policy.name} or those before its "
            f"training: they are too much alike to be told apart by what it answers. Make sure that it serves "
            f"{policy.source}"
        )


def greedy(client: Client, way: Way, policy: SampledPolicy, own: Sequence[Own]) -> list[Reply]:
    """A server's greedy answers to the prompts of a policy's own ones.

    Raises:
        ConfigError: it does not answer.
    """
    replies = _greedy(client, way, policy, own)
    if isinstance(replies, str):
        raise ConfigError(f"{client.settings.url} does not answer: {replies}")
    return replies


def _ways(
    model: str, software: Software, options: ServerEngineConfig, policy: SampledPolicy, own: Sequence[Own]
) -> Iterator[Way]:
    modes = _MODES[software] if options.prompts is None else (options.prompts,)
    bos = policy.tokenizer.bos_token
    for mode in modes:
        if mode == "messages" and any(one.prompt.messages is None for one in own):
            continue
        way = Way(model, software, mode, extra=options.extra_body)
        yield way
        if mode == "text" and isinstance(bos, str) and all(one.prompt.text.startswith(bos) for one in own):
            yield replace(way, drop_bos=bos)


def _greedy(client: Client, way: Way, policy: SampledPolicy, own: Sequence[Own]) -> list[Reply] | str:
    """The server's greedy answers, or why they are of no use."""
    length = max(len(one.ids) for one in own)
    params = SamplingParams(1, 0.0, 1.0, length)
    questions = [Question(one.prompt, (0,), params, policy.end_tokens, 0) for one in own]
    found: dict[int, Reply] = {}
    for at, reply in client.map(range(len(questions)), lambda api, at: ask(api, questions[at], way)):
        if isinstance(reply, ServerFailure):
            return reply.reason
        count, wanted = reply.prompt_tokens, len(questions[at].prompt.ids)
        if count is not None and count != wanted:
            return f"it reads {count} tokens in place of {wanted}"
        found[at] = reply
    return [found[at] for at in range(len(questions))]


def _logps(client: Client, way: Way, own: Sequence[Own], key: str) -> list[list[float]] | None:
    """Log-probabilities of the policy's drawn answers on the server; None if it does not give them.

    Raises:
        ConfigError: the server failed. That says nothing about what it can do, so no weaker proof takes its place.
    """
    found: dict[int, list[float]] = {}

    def get(api: OpenAI, at: int) -> _Echo:
        return _Echo(echoed(api, own[at].prompt.ids, own[at].drawn, way))

    for at, echo in client.map(range(len(own)), get):
        if isinstance(echo, ServerFailure) and echo.again:
            raise ConfigError(
                f"{key}: {client.settings.url} did not give the log-probabilities that prove which weights it serves: "
                f"{echo.reason}; give the same command again"
            )
        if isinstance(echo, ServerFailure) or echo.logps is None:
            return None
        found[at] = echo.logps
    return [found[at] for at in range(len(own))]


def listed_models(client: Client, key: str) -> tuple[str, ...]:
    """The names of the models that a server lists; none if it has no list.

    Raises:
        ConfigError: the server does not answer.
    """
    return tuple(name for name, _, _ in _listed(client, key).models)


def _listed(client: Client, key: str) -> _Listed:
    def get(api: OpenAI, _: None) -> _Listed:
        # openai fails itself on a list that is no object.
        with reading_answer("a list of models"):
            models: Any = api.models.list().data or []
            rows = [(str(one.id), str(one.owned_by), str(getattr(one, "root", "") or one.id)) for one in models]
        return _Listed(tuple(rows))

    # Not sent again: some software has no list of models, or fails to make one.
    found = _once(Client(replace(client.settings, retries=0), key), get)
    if isinstance(found, ServerFailure) and _UNREACHED.match(found.reason):
        found = _once(client, get)
    if isinstance(found, ServerFailure):
        if _UNREACHED.match(found.reason):
            raise ConfigError(
                f"{key}.url: {client.settings.url} does not answer: {found.reason}; start the server or correct its "
                "address, and give the same command again"
            )
        return _Listed(())
    return found


def _known(listed: _Listed) -> Software | None:
    for _, owner, _ in listed.models:
        if owner in _OWNERS:
            return _OWNERS[owner]
    return None


def _served(client: Client, key: str) -> str:
    """What a server says that it serves."""
    model = client.settings.model
    root = next((folder for name, _, folder in _listed(client, key).models if name == model), model)
    return model if root == model else f"{model} ({root})"


def _other(client: Client) -> Software:
    """``transformers`` or ``other``: transformers refuses fields that it does not know."""

    def get(api: OpenAI, _: None) -> Any:
        model = client.settings.model
        api.completions.create(model=model, prompt="a", max_tokens=1, extra_body={"no_such_field": True})
        return _Echo(None)

    found = _once(client, get)
    strict = isinstance(found, ServerFailure) and "Unexpected fields" in found.reason
    return "transformers" if strict else "other"


def _once(client: Client, get: Callable[[OpenAI, None], Any]) -> Any:
    """The answer to one request, or its failure; one that cannot succeed is a failure too."""
    try:
        ((_, found),) = client.map([None], get)
    except ConfigError as error:
        return ServerFailure(str(error), again=False)
    return found

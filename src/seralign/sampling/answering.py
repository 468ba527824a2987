"""Requests to a server, many at a time, and the candidates that come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from seralign.errors import ConfigError
from seralign.progress import say
from seralign.records import Candidate
from seralign.sampling.base import Request
from seralign.sampling.fitting import TEXT, Fitting
from seralign.sampling.wire import Question, Way, ask, seed_of
from seralign.servers.client import Client, ServerFailure


@dataclass
class _Open:
    """A request whose answer is not complete. ``left``: responses that did not come yet."""

    request: Request
    left: int
    found: list[Candidate] = field(default_factory=list)


def answered(
    client: Client, way: Way, fitting: Fitting, requests: Iterable[Request], key: str
) -> Iterator[tuple[Request, list[Candidate]]]:
    """Answer requests as ``Sampler.sample`` does, each as soon as its responses are complete.

    Responses that do not fit the policy's tokenizer are left out, and their number is said at the end.

    Args:
        client: The server.
        way: How it is asked.
        fitting: Turns responses into candidates.
        requests: Requests of one prompt each.
        key: The configuration key of the engine, for messages.

    Raises:
        ConfigError: the server refuses a prompt, does not answer, or nothing that it answers fits.
    """
    dropped, kept, failures = Counter[str](), 0, list[ServerFailure]()

    def questions() -> Iterator[tuple[_Open, Question]]:
        for request in requests:
            opened = _Open(request, request.params.samples)
            for question in split(request, way):
                yield opened, question

    for (opened, question), reply in client.map(questions(), lambda api, item: ask(api, item[1], way)):
        if isinstance(reply, ServerFailure):
            if not reply.again:
                raise ConfigError(
                    f"{key}: {client.settings.url} refuses the prompt {question.prompt.prompt_id}: {reply.reason}"
                )
            failures.append(reply)
            continue
        fitted = fitting.fit(question, reply)
        opened.found += [one for one in fitted if isinstance(one, Candidate)]
        dropped.update(one for one in fitted if isinstance(one, str))
        opened.left -= len(fitted)
        if not opened.left:
            kept += len(opened.found)
            yield opened.request, sorted(opened.found, key=lambda one: one.index)
    if dropped:
        _say(dropped, kept, client, key)
    if failures:
        raise ConfigError(
            f"{key}: {client.settings.url} did not answer {len(failures)} requests ({failures[-1].reason}); what it "
            "answered is kept; give the same command again"
        )


def split(request: Request, way: Way) -> Iterator[Question]:
    """The questions of a request: one, or one for each response where the server makes one at a time."""
    params, ends = request.params, request.end_tokens
    for prompt in request.prompts:
        indices = tuple(range(params.samples))
        for part in [indices] if way.several else [(index,) for index in indices]:
            yield Question(prompt, part, params, ends, seed_of(request.seed, prompt.prompt_id, part[0]))


def _say(dropped: Counter[str], kept: int, client: Client, key: str) -> None:
    reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common())
    total = sum(dropped.values())
    text = f"{total} of {total + kept} responses of {client.settings.url} do not fit the policy's tokenizer: {reasons}"
    if not kept:
        why = ""
        if set(dropped) == {TEXT}:
            why = (
                ". The text of a model that was hardly trained, above all one of bytes, seldom gives back its tokens; "
                "use a server that returns token ids, such as vLLM, or engine: local"
            )
        raise ConfigError(f"{key}: {text}{why}")
    say(f"{key}: {text}; they are dropped")

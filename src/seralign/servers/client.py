"""A client of OpenAI-compatible servers: parallel requests, sent again if they fail, within rate limits."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from seralign.config.server import ServerConfig
from seralign.errors import ConfigError
from seralign.progress import say
from seralign.servers.pace import Pace
from seralign.servers.troubles import Trouble, trouble_of
from seralign.servers.usage import Usage, Used, usage_of

if TYPE_CHECKING:
    from openai import OpenAI

_KEY = "OPENAI_API_KEY"
# Local servers want a key, and read none.
_NO_KEY = "none"
# Seconds before a request is sent again: the first, and the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
# A server that asks to wait longer is not waited for.
_PATIENCE = 600.0
# Seconds to wait for the list of models, and how many of them a message shows.
_LISTING, _SHOWN = 10.0, 10
# So many requests in a row without an answer, and the server counts as gone.
_GONE = 3


@dataclass(frozen=True, slots=True)
class ServerFailure:
    """Why a request has no answer.

    Args:
        reason: In a few words.
        again: Whether the same request may succeed at another time.
    """

    reason: str
    again: bool


class Answered(Protocol):
    """What ``ask`` returns: anything with the usage of the request, as all responses of ``openai`` have it."""

    @property
    def usage(self) -> Used | None: ...


Item = TypeVar("Item")
Answer = TypeVar("Answer", bound=Answered)


class Client:
    """Sends requests to a server. Nothing is sent before ``map``.

    Args:
        settings: The server.
        key: The configuration section of the server, for messages: ``evaluation.judge_options``.

    Raises:
        ConfigError: ``openai`` is not installed, or the environment variable with the key is not set.
    """

    def __init__(self, settings: ServerConfig, key: str) -> None:
        self.settings, self._key = settings, key
        self._variable, self._secret = _read_key(settings, key)
        self._openai = _library(key)
        self._pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
        # Not the global generator: training draws from that.
        self._random = random.Random()
        self._usage = Usage()
        self._complained = threading.Event()
        # The models that the server lists, if the wanted one is not among them and no request was answered yet.
        self._others: tuple[str, ...] = ()

    @property
    def usage(self) -> Usage:
        """Requests that were answered so far, and their tokens."""
        return self._usage

    def look_up_model(self) -> None:
        """Compare the name of the model with those that the server lists under ``/models``, if it lists any.

        If it is not among them, ``map`` sends its first request alone: some servers answer to names that they do not
        list, which is a warning. A refusal is one error, before any other request is sent.
        """
        with self._connection() as api:
            names = _models(api)
        model = self.settings.model
        self._others = () if is_listed(model, names) else names

    def map(
        self, items: Iterable[Item], ask: Callable[[OpenAI, Item], Answer]
    ) -> Iterator[tuple[Item, Answer | ServerFailure]]:
        """Ask for each item, and yield it with its answer as soon as that is complete, in any order.

        Items are read in the calling thread, ``parallel`` ahead of the answers: a caller that wants no more answers
        ends the items, and gets those that are under way.

        Args:
            items: The items.
            ask: Makes one request. Called in several threads. It may raise ``NotAnAnswer``; exceptions of ``openai``
                are handled here.

        Raises:
            ConfigError: no request can succeed: a wrong key, model or address, or the server is gone. It is raised
                after the answers of the requests under way.
        """
        todo, done = SimpleQueue[Any](), SimpleQueue[Any]()
        stop, under_way, failed = threading.Event(), 0, 0
        workers: list[threading.Thread] = []
        source, fatal = iter(items), None
        api = self._connection()
        try:
            while True:
                while fatal is None and under_way < (1 if self._others else self.settings.parallel):
                    try:
                        todo.put((next(source),))
                    except StopIteration:
                        break
                    under_way += 1
                    if len(workers) < under_way:
                        # As a daemon, a thread that waits for an answer does not keep the process from ending.
                        worker = threading.Thread(target=self._work, args=(api, ask, todo, done, stop), daemon=True)
                        worker.start()
                        workers.append(worker)
                if not under_way:
                    break
                item, answer = done.get()
                under_way -= 1
                if isinstance(answer, ConfigError):
                    stop.set()
                    fatal = fatal or answer
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if isinstance(answer, ServerFailure):
                    if self._others and answer.reason.startswith("status "):
                        raise self._no_model(answer)
                    failed += answer.again
                    if failed >= max(_GONE, self.settings.parallel) and fatal is None:
                        stop.set()
                        fatal = self._gone(answer)
                else:
                    failed = 0
                    self._answers_to_its_name()
                    self._usage += usage_of(answer.usage)
                yield item, answer
            if fatal is not None:
                raise fatal
        finally:
            stop.set()
            for _ in workers:
                todo.put(None)
            # A connection in use is not closed with the others, so the threads have to end first.
            if under_way:
                threading.Thread(target=_close, args=(api, workers), daemon=True).start()
            else:
                _close(api, workers)

    def _work(
        self, api: OpenAI, ask: Any, todo: SimpleQueue[Any], done: SimpleQueue[Any], stop: threading.Event
    ) -> None:
        while (given := todo.get()) is not None:
            try:
                answer = self._answer(api, ask, given[0], stop)
            except BaseException as error:
                answer = error
            done.put((given[0], answer))

    def _answer(self, api: OpenAI, ask: Any, item: Any, stop: threading.Event) -> Any:
        attempt = 0
        while True:
            counted = self._pace.wait(stop)
            if stop.is_set():
                return ServerFailure("not asked", again=True)
            try:
                answer = ask(api, item)
            except Exception as error:
                trouble = trouble_of(error, self.settings, self._variable)
                if trouble is None:
                    raise
            else:
                if answer.usage is not None:
                    self._pace.used(usage_of(answer.usage).tokens, counted)
                return answer
            self._pace.unused(counted)
            reason = self._without_key(trouble.reason)
            if trouble.fatal is not None:
                known = _having(_models(api)) if trouble.fatal.startswith("model:") else ""
                raise ConfigError(f"{self._key}.{self._without_key(trouble.fatal + known)}")
            attempt += 1
            if not trouble.again or attempt > self.settings.retries or stop.is_set():
                return ServerFailure(f"{reason} ({attempt} attempts)" if attempt > 1 else reason, trouble.again)
            self._pause(trouble, reason, attempt, stop)

    def _pause(self, trouble: Trouble, reason: str, attempt: int, stop: threading.Event) -> None:
        """Wait before an attempt: as long as the server asks for, else twice as long each time, with jitter."""
        if trouble.wait is not None and trouble.wait > _PATIENCE:
            raise ConfigError(
                f"{self._key}.url: {self.settings.url} asks to wait {trouble.wait:.0f} s ({reason}); "
                "give the same command again after that"
            )
        if not self._complained.is_set():
            self._complained.set()
            say(f"{self.settings.url}: {reason}; the request is sent again")
        if trouble.wait is not None:
            self._pace.pause(trouble.wait)
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
        stop.wait((trouble.wait or 0.0) + longest * self._random.uniform(0.5, 1.0))

    def _answers_to_its_name(self) -> None:
        if self._others:
            say(f"warning: {self._key}.model: {self.settings.url} answers to the name {self.settings.model!r}, but "
                f"does not list such a model{_having(self._others)}")  # fmt: skip
            self._others = ()

    def _no_model(self, failure: ServerFailure) -> ConfigError:
        return ConfigError(
            f"{self._key}.model: {self.settings.url} does not list a model {self.settings.model!r}, and does not "
            f"answer to that name ({failure.reason}){_having(self._others)}"
        )

    def _connection(self) -> OpenAI:
        return self._openai(
            base_url=self.settings.url,
            api_key=self._secret or _NO_KEY,
            timeout=self.settings.timeout,
            max_retries=0,  # they are made here
        )

    def _gone(self, failure: ServerFailure) -> ConfigError:
        what = "no longer answers" if self._usage.requests else "does not answer"
        return ConfigError(
            f"{self._key}.url: {self.settings.url} {what}: {failure.reason}; start the server or correct its address "
            "(or raise timeout, if it is slow), and give the same command again"
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


def _close(api: OpenAI, workers: list[threading.Thread]) -> None:
    for worker in workers:
        worker.join()
    api.close()


def _read_key(settings: ServerConfig, key: str) -> tuple[str, str]:
    """The environment variable with the API key, and the key; both empty if there is none."""
    variable = settings.api_key_env or _KEY
    secret = os.environ.get(variable, "").strip()
    if not secret:
        if settings.api_key_env is not None:
            raise ConfigError(f"{key}.api_key_env: the environment variable {variable} is not set")
        return "", ""
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigError(f"{key}.api_key_env: the value of {variable} has characters that no key has")
    return variable, secret


def _library(key: str) -> type[OpenAI]:
    try:
        from openai import OpenAI
    except ImportError:
        raise ConfigError(f"{key}: needs the package openai; pip install 'seralign[servers]'") from None
    return OpenAI


def is_listed(model: str, names: Collection[str]) -> bool:
    """Whether a server that lists these names has a model. Ollama lists the tag that it adds."""
    return model in names or f"{model}:latest" in names


def _models(api: OpenAI) -> tuple[str, ...]:
    """The models that a server lists; none if it lists none, or not in time."""
    try:
        return tuple(str(model.id) for model in api.with_options(timeout=_LISTING).models.list().data)
    except Exception:
        return ()


def _having(models: Sequence[str]) -> str:
    """The models of a server as the end of a message; empty if it lists none."""
    shown = ", ".join(models[:_SHOWN])
    return f"; it has {shown}{', ...' if len(models) > _SHOWN else ''}" if models else ""

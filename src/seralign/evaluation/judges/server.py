"""A judge that asks a language model behind an OpenAI-compatible server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seralign.config.values import build
from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Verdict
from seralign.evaluation.judges.budget import Budget
from seralign.evaluation.judges.options import ServerJudgeOptions
from seralign.evaluation.judges.reading import Unreadable, read
from seralign.evaluation.judges.templates import Template, load_template
from seralign.evaluation.judges.texts import conversation
from seralign.evaluation.scores import StoredScorer
from seralign.progress import bar
from seralign.runs.results import Results, result_key
from seralign.servers.chat import ChatSettings, Reply, chat
from seralign.servers.client import Client, ServerFailure
from seralign.servers.usage import Usage, usage_of


@dataclass(frozen=True, slots=True)
class _Question:
    """A request: its identity, and its messages. ``swapped``: the second response is shown first."""

    key: bytes
    messages: list[dict[str, str]]
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer to a question, and the usage that no earlier verdict has counted."""

    reply: Reply
    usage: Usage


class ServerJudge:
    """Asks a chat model which of two responses is better, or for a grade of each.

    Args:
        options: The keys of ``ServerJudgeOptions`` and ``ServerConfig``.
        key: The configuration key that names the judge, for messages.
        scorer: Not used.
        results: Where answers are stored, so that no question is asked twice.

    Raises:
        ConfigError: an option or the template is wrong.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> None:
        self._section, self._results = f"{key}_options", results
        self.options = build(ServerJudgeOptions, options, self._section)
        self._template = load_template(self.options.template, f"{self._section}.template")
        self._chat = _chat_settings(self.options, self._template)
        self._budget = Budget(self.options, self._section)
        self._client: Client | None = None
        # All that a request has besides the texts. A server may move, so its address is not part of it.
        what = [asdict(self._chat), self._template.digest, self.options.orders]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self.identity = f"server {self.options.server.model}, {Path(self.options.template).stem}, {digest}"

    @property
    def usage(self) -> Usage:
        """What the judge has spent in this process."""
        return self._budget.spent

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``. Equal responses are a tie, and are not asked about.

        Raises:
            ConfigError: no request can succeed, the server has no log-probabilities, or the budget is spent.
        """
        asked = [(comparison, self._questions(comparison)) for comparison in comparisons]
        answers: dict[bytes, _Answer | ServerFailure] = {}
        answers.update(self._stored([question.key for _, questions in asked for question in questions]))
        waiting, missing = dict[bytes, list[int]](), [0] * len(asked)
        for number, (_, questions) in enumerate(asked):
            for key in {question.key for question in questions} - answers.keys():
                waiting.setdefault(key, []).append(number)
                missing[number] += 1
        decided, stopped = 0, False

        def to_ask() -> Iterator[_Question]:
            nonlocal stopped
            sent = set[bytes]()
            for _, questions in asked:
                new = {one.key: one for one in questions if one.key not in answers and one.key not in sent}
                if new and self._budget.is_spent:
                    stopped = True
                    return
                for question in new.values():
                    sent.add(question.key)
                    self._budget.asked()
                    yield question

        counted = set[bytes]()
        for number, (comparison, questions) in enumerate(asked):
            if not missing[number]:
                decided += 1
                yield comparison, self._verdict(questions, answers, counted)
        if not waiting:
            return
        if self._client is None:
            self._client = Client(self.options.server, self._section)
            self._client.look_up_model()
        ask = chat(self._chat)
        with bar(f"judge {self.options.server.model}", len(waiting), "requests") as progress:
            for question, reply in self._client.map(to_ask(), lambda api, one: ask(api, one.messages)):
                answers[question.key] = self._received(question, reply)
                progress.advance()
                progress.note(self._budget.note())
                for number in waiting[question.key]:
                    missing[number] -= 1
                    if not missing[number]:
                        decided += 1
                        yield asked[number][0], self._verdict(asked[number][1], answers, counted)
        if stopped:
            raise self._budget.error(decided, len(asked))

    def _questions(self, comparison: Comparison) -> list[_Question]:
        """The questions of a comparison; none if both responses are equal."""
        first, second = comparison.first, comparison.second
        prompt = conversation(comparison.prompt)
        if first == second:
            return []
        if self._template.scale is not None:
            return [self._question({"prompt": prompt, "response": text}) for text in (first, second)]
        given = self._question({"prompt": prompt, "first": first, "second": second})
        turned = self._question({"prompt": prompt, "first": second, "second": first}, swapped=True)
        if self.options.orders == "both":
            return [given, turned]
        # As good as drawn, and the same when the responses change places.
        return [given if given.key < turned.key else turned]

    def _question(self, texts: dict[str, str], swapped: bool = False) -> _Question:
        messages = self._template.fill(texts)
        return _Question(result_key("chat", [asdict(self._chat), messages]), messages, swapped)

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, _Answer]:
        if self._results is None:
            return {}
        return {key: _from_json(value) for key, value in self._results.get(list(dict.fromkeys(keys)))}

    def _received(self, question: _Question, reply: Reply | ServerFailure) -> _Answer | ServerFailure:
        """Count and store an answer.

        Raises:
            ConfigError: the server does not return what the template or the budget needs.
        """
        if isinstance(reply, ServerFailure):
            self._budget.returned(None)
            return reply
        answer = _Answer(reply, usage_of(reply.usage, self.options.prices))
        self._budget.returned(answer.usage)
        if self._template.by_logprobs and reply.tops is None:
            raise ConfigError(
                f"{self._section}.template: {self.options.server.url} returns no log-probabilities of tokens, which "
                f"{self.options.template} needs; use a template that asks for a verdict in words, such as pairwise"
            )
        if self._results is not None:
            self._results.put({question.key: _to_json(answer)})
        return answer

    def _verdict(
        self, questions: Sequence[_Question], answers: dict[bytes, _Answer | ServerFailure], counted: set[bytes]
    ) -> Verdict:
        """The verdict by the answers to the questions of a comparison. An answer's usage is counted once."""
        if not questions:
            return Verdict(0.5, explanation="the responses are equal")
        found, usage = [], Usage()
        for question in questions:
            answer = answers[question.key]
            if isinstance(answer, ServerFailure):
                return Verdict(None, error=answer.reason)
            found.append(answer.reply)
            usage += answer.usage if question.key not in counted else Usage()
            counted.add(question.key)
        values = [read(self._template, reply) for reply in found]
        text = "\n\n---\n\n".join(reply.text for reply in found)
        unreadable = next((value.reason for value in values if isinstance(value, Unreadable)), None)
        if unreadable is not None:
            return Verdict(None, explanation=text, unreadable=unreadable, usage=usage)
        numbers = [float(value) for value in values if not isinstance(value, Unreadable)]
        if self._template.scale is not None:
            return _graded(numbers[0], numbers[1], text, usage)
        better = [1 - p if question.swapped else p for p, question in zip(numbers, questions, strict=True)]
        orders = (better[0], better[1]) if len(better) == 2 else None
        return Verdict(sum(better) / len(better), explanation=text, orders=orders, usage=usage)


def _graded(first: float, second: float, text: str, usage: Usage) -> Verdict:
    better = 0.5 if first == second else float(first > second)
    return Verdict(better, (first, second), explanation=text, usage=usage)


def _chat_settings(options: ServerJudgeOptions, template: Template) -> ChatSettings:
    return ChatSettings(
        options.server.model,
        template.max_tokens if options.max_tokens is None else options.max_tokens,
        template.temperature if options.temperature is None else options.temperature,
        options.top_p,
        options.seed,
        options.top_logprobs if template.by_logprobs else None,
        options.extra,
    )


def _to_json(answer: _Answer) -> dict[str, Any]:
    reply = answer.reply
    return {"text": reply.text, "finished": reply.finished, "tops": reply.tops, "usage": asdict(answer.usage)}


def _from_json(values: dict[str, Any]) -> _Answer:
    usage, tops = Usage(**values["usage"]), values["tops"]
    tops = None if tops is None else tuple(tuple((name, value) for name, value in token) for token in tops)
    return _Answer(Reply(values["text"], values["finished"], tops, usage), usage)

"""Outputs of an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seralign.config.evaluate import EvaluateConfig, EvaluatedConfig
from seralign.config.server import ServerConfig
from seralign.errors import ConfigError
from seralign.pipeline.evaluate.outputs import Output, Outputs
from seralign.pipeline.evaluate.prompts import Question
from seralign.progress import bar
from seralign.runs.results import Results, result_key
from seralign.servers.client import Client, ServerFailure
from seralign.servers.troubles import NotAnAnswer

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Completion
    from openai.types.chat import ChatCompletion


def served_outputs(
    name: str, policy: EvaluatedConfig, config: EvaluateConfig, questions: Sequence[Question], results: Results
) -> Outputs:
    """Ask a server for an answer to each prompt. Each answer is stored as it comes, and never asked for again.

    Raises:
        ConfigError: the server cannot be used, or did not answer some prompts that it may answer another time.
    """
    server, key = policy.server, f"policies.{name}.server"
    assert server is not None
    requests = [_request(question, server, config) for question in questions]
    keys = [result_key("served answer", [name, request]) for request in requests]
    found: dict[bytes, Any] = dict(results.get(keys))
    missing = [place for place, one in enumerate(keys) if one not in found]
    reasons: dict[int, str] = {}
    again: list[str] = []
    if missing:
        client = Client(server, key)
        with bar(f"outputs, {name}", len(questions), "response") as line:
            line.at(len(questions) - len(missing))
            for place, answer in client.map(missing, lambda api, place: _ask(api, requests[place])):
                line.advance()
                if isinstance(answer, ServerFailure):
                    reasons[place] = answer.reason
                    again += [answer.reason] if answer.again else []
                    continue
                found[keys[place]] = _stored(answer)
                results.put({keys[place]: found[keys[place]]})
    if again:
        raise ConfigError(
            f"{key}: {len(again)} of {len(questions)} prompts have no answer yet ({again[0]}); the others are stored, "
            "give the same command again"
        )
    answers = tuple(Output(*found[one]) if one in found else None for one in keys)
    source = f"{server.model} at {server.url}"
    return Outputs(name, source, answers, tuple(reasons.get(place) for place in range(len(keys))))


def _request(question: Question, server: ServerConfig, config: EvaluateConfig) -> dict[str, Any]:
    """The body of the request for an answer."""
    sampling = config.sampling
    body: dict[str, Any] = {
        "model": server.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.limit,
        "seed": config.seed,
    }
    if config.plain:
        return body | {"prompt": question.prompt.text}
    stored = question.prompt.messages
    messages = [{"role": "user", "content": question.prompt.text}] if stored is None else json.loads(stored)
    if config.system is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system}, *messages]
    body["messages"] = messages
    if question.inputs.tools:
        body["tools"] = list(question.inputs.tools)
    if question.inputs.settings:
        body["extra_body"] = {"chat_template_kwargs": dict(question.inputs.settings)}
    return body


def _ask(api: OpenAI, request: dict[str, Any]) -> ChatCompletion | Completion:
    answer = api.completions.create(**request) if "prompt" in request else api.chat.completions.create(**request)
    if not getattr(answer, "choices", None):
        raise NotAnAnswer("it has no choices")
    return answer


def _stored(answer: ChatCompletion | Completion) -> list[Any]:
    """The arguments of ``Output``, which are stored as JSON."""
    choice: Any = answer.choices[0]
    text = choice.text if hasattr(choice, "text") else choice.message.content
    tokens = None if answer.usage is None else answer.usage.completion_tokens
    return [text or "", choice.finish_reason != "length", tokens]

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
from seralign.servers.chat import ChatSettings, Reply, chat
from seralign.servers.client import Client, ServerFailure
from seralign.servers.troubles import NotAnAnswer, reading_answer
from seralign.servers.usage import reported

if TYPE_CHECKING:
    from openai import OpenAI


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
        client.look_up_model()
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
        rest = "; the others are stored, give the same command again" if found else "; give the same command again"
        raise ConfigError(f"{key}: {len(again)} of {len(questions)} prompts have no answer yet ({again[0]}){rest}")
    answers = tuple(Output(*found[one]) if one in found else None for one in keys)
    source = f"{server.model} at {server.url}"
    return Outputs(name, source, answers, tuple(reasons.get(place) for place in range(len(keys))))


def _request(question: Question, server: ServerConfig, config: EvaluateConfig) -> dict[str, Any]:
    """Everything that the answer to a prompt depends on, as JSON."""
    sampling = config.sampling
    common = {
        "model": server.model, "max_tokens": sampling.limit, "temperature": sampling.temperature,
        "top_p": sampling.top_p, "seed": config.seed,
    }  # fmt: skip
    if config.plain:
        return {"settings": common, "prompt": question.prompt.text}
    stored = question.prompt.messages
    messages = [{"role": "user", "content": question.prompt.text}] if stored is None else json.loads(stored)
    if config.system is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system}, *messages]
    extra: dict[str, Any] = {}
    if question.inputs.tools:
        extra["tools"] = list(question.inputs.tools)
    if question.inputs.settings:
        extra["chat_template_kwargs"] = dict(question.inputs.settings)
    return {"settings": common | {"extra": extra}, "messages": messages}


def _ask(api: OpenAI, request: dict[str, Any]) -> Reply:
    if "messages" in request:
        return chat(ChatSettings(**request["settings"]))(api, request["messages"])
    found: Any = api.completions.create(prompt=request["prompt"], **request["settings"])
    with reading_answer(found):
        choice = found.choices[0]
        text, finish = choice.text, choice.finish_reason
    if not isinstance(text, str):
        raise NotAnAnswer(str(found))
    return Reply(text, finish != "length", None, reported(found))


def _stored(reply: Reply) -> list[Any]:
    """The arguments of ``Output``, which are stored as JSON."""
    return [reply.text, reply.finished, None if reply.usage is None else reply.usage.completion_tokens]

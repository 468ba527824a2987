"""One request to a server of the OpenAI API, in the form that its software reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seralign.config.engines import Mode, Software
from seralign.policy.sampling import SamplingParams
from seralign.records import Prompt
from seralign.servers.troubles import NotAnAnswer, reading_answer
from seralign.servers.usage import Used, reported

if TYPE_CHECKING:
    from openai import OpenAI

# Software that makes several responses to a prompt in one request.
_SEVERAL = {"vllm", "sglang"}


@dataclass(frozen=True)
class Way:
    """How a server is asked.

    Args:
        model: Name of the model on the server.
        software: What serves. Without a setting of its own, published generation settings (top-k, penalties ...) would
            apply, so the request switches them off as far as the software can.
        mode: How the prompt is sent.
        drop_bos: Whether the text is sent without its beginning-of-sequence token, because the server adds one.
        extra: More fields of the request.
    """

    model: str
    software: Software
    mode: Mode
    drop_bos: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether a request may be for several responses."""
        return self.software in _SEVERAL


@dataclass(frozen=True)
class Question:
    """Responses ``indices`` to one prompt."""

    prompt: Prompt
    indices: tuple[int, ...]
    params: SamplingParams
    end_tokens: frozenset[int]
    seed: int


@dataclass(frozen=True)
class Choice:
    """A response as it came: its text without special tokens, its token ids if the server gives them, its end."""

    text: str
    ids: tuple[int, ...] | None
    finish: str


@dataclass(frozen=True)
class Reply:
    """The responses to a question, and the number of tokens that the server read."""

    choices: tuple[Choice, ...]
    usage: Used | None

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the prompt; None if the server does not report them."""
        return None if self.usage is None else self.usage.prompt_tokens


def seed_of(seed: int, prompt_id: str, index: int) -> int:
    """The seed of a response: depends on the seed of the request, the prompt and the index alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}:{index}".encode()).digest()[:4], "big") >> 1


def ask(api: OpenAI, question: Question, way: Way) -> Reply:
    """Send a question.

    Raises:
        NotAnAnswer: the answer does not have what an answer has.
    """
    params = question.params
    fields: dict[str, Any] = {
        "model": way.model,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": question.seed,
        "extra_body": _extra(question, way),
    }
    if len(question.indices) > 1:
        fields["n"] = len(question.indices)
    if way.mode == "messages":
        found = api.chat.completions.create(messages=_messages(question.prompt), **fields)
        with reading_answer(found):
            return _chat(found, question)
    prompt = list(question.prompt.ids) if way.mode == "tokens" else question.prompt.text.removeprefix(way.drop_bos)
    found = api.completions.create(prompt=prompt, **fields)
    with reading_answer(found):
        return _completion(found, question)


def echoed(api: OpenAI, prompt: Sequence[int], response: Sequence[int], way: Way) -> list[float] | None:
    """The log-probabilities of a response's tokens on the server; None if it does not give them."""
    found = api.completions.create(
        model=way.model, prompt=[*prompt, *response], max_tokens=1, temperature=0.0, echo=True, logprobs=1,
        extra_body=way.extra,
    )  # fmt: skip
    with reading_answer(found):
        choices: Any = found.choices
        logprobs = choices[0].logprobs if choices else None
        values = None if logprobs is None else logprobs.token_logprobs
    upto = len(prompt) + len(response)
    # Without an echo there is one value, that of the sampled token.
    if not isinstance(values, list) or len(values) < upto:
        return None
    part = values[len(prompt) : upto]
    return [float(value) for value in part] if all(isinstance(value, int | float) for value in part) else None


def _extra(question: Question, way: Way) -> dict[str, Any]:
    """Fields beyond those of the OpenAI API."""
    params, ends = question.params, sorted(question.end_tokens)
    fields: dict[str, Any] = {}
    match way.software:
        case "vllm":
            fields = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": ends,
                      "return_token_ids": True}  # fmt: skip
            fields |= {} if way.mode == "messages" else {"add_special_tokens": False}
        case "sglang":
            fields = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": ends}
        case "llama.cpp":
            # Nothing but these two, and in this order: the temperature applies before the nucleus.
            fields = {"samplers": ["temperature", "top_p"], "repeat_penalty": 1.0}
        case "transformers":
            fields = {"generation_config": json.dumps(_generation(params, ends))}
    return fields | _inputs(question.prompt, way) | way.extra


def _generation(params: SamplingParams, ends: list[int]) -> dict[str, Any]:
    """Settings of transformers in place of those that the model was published with; these would sample greedily."""
    settings: dict[str, Any] = {"max_new_tokens": params.max_new_tokens, "eos_token_id": ends, "pad_token_id": ends[0]}
    if params.temperature == 0:
        return settings | {"do_sample": False}
    return settings | {"do_sample": True, "temperature": params.temperature, "top_p": params.top_p, "top_k": 0}


def _inputs(prompt: Prompt, way: Way) -> dict[str, Any]:
    """The inputs of the chat template besides the messages."""
    given = json.loads(prompt.template_inputs) if prompt.template_inputs else {}
    return given if way.mode == "messages" else {}


def _messages(prompt: Prompt) -> Any:
    assert prompt.messages is not None
    return json.loads(prompt.messages)


def _completion(found: Any, question: Question) -> Reply:
    choices = [Choice(_text(one.text), _ids(one), str(one.finish_reason)) for one in _choices(found, question)]
    return Reply(tuple(choices), reported(found))


def _chat(found: Any, question: Question) -> Reply:
    choices = []
    for one in _choices(found, question):
        message = one.message
        apart = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        finish = "reasoning apart from the answer" if apart else str(one.finish_reason)
        choices.append(Choice(_text(message.content or ""), _ids(one), finish))
    return Reply(tuple(choices), reported(found))


def _choices(found: Any, question: Question) -> list[Any]:
    choices = getattr(found, "choices", None)
    if not isinstance(choices, list) or len(choices) != len(question.indices):
        got = len(choices) if isinstance(choices, list) else "no"
        raise NotAnAnswer(f"{got} choices in place of {len(question.indices)}")
    return sorted(choices, key=lambda one: one.index)


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise NotAnAnswer("a choice without text")
    return text


def _ids(choice: Any) -> tuple[int, ...] | None:
    ids = getattr(choice, "token_ids", None)
    return tuple(ids) if isinstance(ids, list) and all(isinstance(each, int) for each in ids) else None

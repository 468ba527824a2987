"""Read what a judge answered. What cannot be read is never guessed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from seralign.errors import brief
from seralign.evaluation.judges.templates import Template
from seralign.servers.chat import Reply

_THOUGHT = "</think>"
_CLOSED, _OPEN = re.compile(rf"^.*{_THOUGHT}", re.DOTALL), "<think>"
# How tokenizers write the space before a word.
_SPACES = " \n\t\u0120\u2581"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why an answer cannot be read, with the end of the answer."""

    reason: str


def read(template: Template, reply: Reply) -> float | Unreadable:
    """The probability that the response that was shown first is better; or the grade of the response."""
    if template.by_logprobs:
        return _of_tokens(template.labels or {}, template.least_probability, reply)
    text = _CLOSED.sub("", reply.text)
    if text.lstrip().startswith(_OPEN):
        return _unreadable("the answer ends within its reasoning", reply)
    found = {match[1] for match in re.finditer(template.pattern or "", text)}
    if not found:
        return _unreadable("no verdict" if reply.finished else "no verdict before the answer was cut", reply)
    if template.labels is not None:
        values = {template.labels.get(label or "") for label in found}
        if None in values:
            return _unreadable("a verdict that the template does not list", reply)
    else:
        values = {_grade(label, template.scale or []) for label in found}
        if None in values:
            return _unreadable("a grade that is not on the scale", reply)
    value = values.pop()
    return _unreadable("several verdicts that contradict each other", reply) if values or value is None else value


def _of_tokens(labels: dict[str, float], least: float, reply: Reply) -> float | Unreadable:
    """The mean of the labels' values, weighted by the probabilities of their tokens.

    A label that is not among the alternatives of the token has probability 0, as in AlpacaEval. Where the labels
    together have a small probability, that would make up certainty: there is no verdict.
    """
    tops = reply.tops or ()
    for place, alternatives in enumerate(tops):
        weights = dict.fromkeys(labels, 0.0)
        blank = 0.0
        for token, logprob in alternatives:
            name = token.strip(_SPACES)
            if name in weights:
                weights[name] += math.exp(logprob)
            elif not name:
                blank = max(blank, math.exp(logprob))
        total = sum(weights.values())
        # Some models begin with a space or a line break of its own.
        if total > 0.0 and (total > blank or place + 1 == len(tops)):
            if total < least:
                what = f"{', '.join(labels)} together have a probability below {least:g} (min_probability)"
                return _unreadable(what, reply)
            return sum(labels[name] * weight for name, weight in weights.items()) / total
        if blank == 0.0:
            break
    return _unreadable(f"none of {', '.join(labels)} is among the most probable tokens", reply)


def _grade(text: str | None, scale: list[float]) -> float | None:
    try:
        grade = float(text or "")
    except ValueError:
        return None
    return grade if scale[0] <= grade <= scale[1] else None


def _unreadable(reason: str, reply: Reply) -> Unreadable:
    return Unreadable(f"{reason}: {brief(ValueError(reply.text[-300:].strip() or '(an empty answer)'))}")

"""Pairs of a demonstration and a response of the policy itself: SPIN (2401.01335) and SAPO (2405.20830). Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from seralign.records import Candidate, Example, Pair, Prompt, Response


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of a response that are sampled again: ``length`` of them from ``start`` on."""

    start: int
    length: int


def segment_of(tokens: int, limit: int, seed: int, example_id: str) -> Segment | None:
    """The segment of a demonstration that is sampled again.

    It has min(limit, tokens - 1) tokens and begins anywhere, each place with the same probability. The last token,
    which ends a response, is never part of it, so that a text with another segment ends as the demonstration does.

    Args:
        tokens: Tokens of the demonstration, the end token counted.
        limit: The longest segment.
        seed: Seed of the round.
        example_id: The demonstration.

    Returns:
        None if the demonstration has no token besides its end.
    """
    length = min(limit, tokens - 1)
    if length < 1:
        return None
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{example_id}".encode()).digest()[:8], "big")
    return Segment(drawn % (tokens - length), length)


def with_segment(response: Sequence[int], segment: Segment, sampled: Candidate) -> tuple[int, ...]:
    """A response whose segment is replaced by sampled tokens; it ends there if the sampled text does.

    Args:
        response: Token ids.
        segment: The segment.
        sampled: A continuation of the tokens before the segment.
    """
    before, after = response[: segment.start], response[segment.start + segment.length :]
    ends = sampled.finished and len(sampled.ids) <= segment.length
    return (*before, *sampled.ids) if ends else (*before, *sampled.ids[: segment.length], *after)


def spin_pairs(
    round_index: int,
    demonstrations: Iterable[Example],
    candidates: Mapping[str, Sequence[Candidate]],
    out: Counter[str],
) -> Iterator[Example]:
    """A pair for each response to a demonstration's prompt: the demonstration is chosen (2401.01335, algorithm 1).

    Args:
        round_index: The round.
        demonstrations: The demonstrations; of other forms, the first response.
        candidates: The responses by ``example_id``.
        out: Counts what gave no pair: ``unfinished``, ``empty`` and ``repeated`` responses, and those ``same as the
            demonstration``.
    """
    for demonstration in demonstrations:
        seen: set[str] = set()
        for sampled in candidates.get(demonstration.example_id, ()):
            text, reason = sampled.text.strip(), None
            if not sampled.finished:
                reason = "unfinished"
            elif not text:
                reason = "empty"
            elif text in seen:
                reason = "repeated"
            elif text == demonstration.responses[0].text.strip():
                reason = "same as the demonstration"
            if reason is not None:
                out[reason] += 1
                continue
            seen.add(text)
            yield _pair(round_index, demonstration, sampled.index, Response(sampled.text, sampled.ids))


def sapo_pairs(
    round_index: int,
    demonstrations: Iterable[Example],
    candidates: Mapping[str, Sequence[Candidate]],
    segments: Mapping[str, Segment],
    decode: Callable[[Sequence[int]], str],
    out: Counter[str],
) -> Iterator[Example]:
    """A pair for each sampled segment: the demonstration is chosen, the same text with this segment rejected
    (2405.20830).

    Args:
        round_index: The round.
        demonstrations: The demonstrations; of other forms, the first response.
        candidates: The segments by ``example_id``.
        segments: Where they belong, by ``example_id``.
        decode: Token ids to text.
        out: Counts what gave no pair: ``empty`` and ``repeated`` segments, and those ``same as the demonstration``.
    """
    for demonstration in demonstrations:
        chosen = demonstration.responses[0].ids
        seen = {chosen: "same as the demonstration"}
        for sampled in candidates.get(demonstration.example_id, ()):
            ids = with_segment(chosen, segments[demonstration.example_id], sampled)
            text = decode(ids)
            reason = seen.get(ids) or (None if text.strip() else "empty")
            if reason is not None:
                out[reason] += 1
                continue
            seen[ids] = "repeated"
            yield _pair(round_index, demonstration, sampled.index, Response(text, ids))


def replayed(ids: Sequence[str], uses: Mapping[str, int], count: int, seed: int) -> set[str]:
    """Draw pairs of a replay buffer, each with a weight of 1 / (1 + number of rounds that used it), as the authors of
    SAPO do; without replacement, by the keys of Efraimidis and Spirakis (2006).

    Args:
        ids: The pairs in the buffer.
        uses: How often each was used; 0 where it is missing.
        count: How many to draw.
        seed: Seed of the round.
    """
    uniform = np.random.default_rng(seed).random(len(ids))
    # log(u) / weight: the largest are drawn. 1 - u is never 0.
    keys = np.log(1.0 - uniform) * np.array([1.0 + uses.get(name, 0) for name in ids])
    drawn: list[int] = np.argsort(-keys, kind="stable")[:count].tolist()
    return {ids[place] for place in drawn}


def before_segment(demonstration: Example, segment: Segment, decode: Callable[[Sequence[int]], str]) -> Prompt:
    """What is continued to sample a segment: the prompt and the response up to the segment, as plain tokens."""
    prompt, before = demonstration.prompt, demonstration.responses[0].ids[: segment.start]
    text = f"{prompt.text}{decode(before) if before else ''}"
    return Prompt(demonstration.example_id, text, (*prompt.ids, *before))


def asked_prompt(demonstration: Example) -> Prompt:
    """The prompt of a demonstration under the demonstration's id, since several may have the same prompt."""
    return replace(demonstration.prompt, prompt_id=demonstration.example_id)


def _pair(round_index: int, demonstration: Example, index: int, rejected: Response) -> Example:
    return Example(
        example_id=f"round{round_index}-{demonstration.example_id}-{index}",
        prompt=demonstration.prompt,
        responses=(demonstration.responses[0], rejected),
        preference=Pair(),
        weight=demonstration.weight,
        origin=f"generated:{round_index}",
    )

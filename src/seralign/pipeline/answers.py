"""A policy's sampled answers to a list of prompts, for a file of JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.data.content import Content, Inputs
from seralign.data.table import read_table, write_prompts
from seralign.errors import DataError
from seralign.pipeline.asking import Asked, Speaker
from seralign.policy.sampling import SamplingParams
from seralign.records import Candidate, Prompt
from seralign.runs.results import Results
from seralign.sampling import candidates_of, sample_candidates


@dataclass(frozen=True)
class Answered:
    """A prompt with its answers, or the reason why there are none. ``inputs`` are tools and the like of its row."""

    given: Content | None
    prompt: Prompt | None
    responses: list[Candidate]
    left_out: str | None
    inputs: Inputs

    def to_dict(self) -> dict[str, Any]:
        """A line of the file: ``prompt`` as text or messages, ``rendered`` as the model reads it, ``responses``."""
        line: dict[str, Any] = {"prompt": self.given}
        if self.prompt is not None:
            line |= {"prompt_id": self.prompt.prompt_id, "rendered": self.prompt.text}
        if self.left_out is not None:
            line["left_out"] = self.left_out
        return line | {
            "responses": [
                {"text": candidate.text, "finished": candidate.finished, "tokens": len(candidate.ids)}
                for candidate in self.responses
            ]
        }


def sample_answers(
    speaker: Speaker,
    asked: Sequence[Asked],
    params: SamplingParams,
    *,
    policy: str,
    seed: int,
    folder: Path,
) -> Iterator[Answered]:
    """Sample ``params.samples`` answers to each prompt, in order. Equal prompts have equal answers.

    Args:
        speaker: The policy.
        asked: The prompts. Those that cannot be asked, or leave no room for an answer, are returned without responses.
        params: The distribution.
        policy: Digest of the policy.
        seed: The same seed and prompts give the same answers.
        folder: Stores the answers so far; a killed sampling resumes from it.

    Raises:
        DataError: no prompt can be asked.
        ModelError: the model's logits are NaN or infinite.
    """
    reasons = [_reason(speaker, one.prompt, params) for one in asked]
    different = {
        one.prompt.prompt_id: one.prompt
        for one, reason in zip(asked, reasons, strict=True)
        if reason is None and isinstance(one.prompt, Prompt)
    }
    if not different:
        counts = ", ".join(f"{reason} {count}" for reason, count in Counter(reasons).most_common())
        raise DataError(f"none of the {len(asked)} prompts can be asked: {counts}")
    folder.mkdir(parents=True, exist_ok=True)
    write_prompts(folder / "prompts.arrow", different.values())
    with closing(Results(folder / "results.sqlite")) as results:
        table = sample_candidates(
            read_table(folder / "prompts.arrow"),
            speaker.sampler,
            params,
            policy=policy,
            end_tokens=speaker.reader.end_tokens,
            seed=seed,
            results=results,
            label="answers",
        )
    candidates = candidates_of(table)
    answers: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        answers.setdefault(candidate.prompt_id, []).append(candidate)
    for one, reason in zip(asked, reasons, strict=True):
        prompt = one.prompt if isinstance(one.prompt, Prompt) else None
        responses = answers.get(prompt.prompt_id, []) if prompt is not None and reason is None else []
        if reason is None and not responses:
            reason = "no answer of the engine fits the policy's tokenizer"
        yield Answered(one.given, prompt, responses, reason, one.inputs)


def _reason(speaker: Speaker, prompt: Prompt | str, params: SamplingParams) -> str | None:
    """Why a prompt is not asked, or None."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt.ids) + params.max_new_tokens > speaker.window:
        return f"prompt and max_new_tokens are more than the model's {speaker.window} positions"
    return None

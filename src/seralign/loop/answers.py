"""Sampled answers to a list of prompts: a policy's answers to a file, as lines of JSON."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seralign.bootstrapping import candidates_of, sample_candidates
from seralign.data.content import Content
from seralign.data.table import read_table, write_prompts
from seralign.errors import DataError
from seralign.files import write_json
from seralign.loop.asking import Speaker
from seralign.policy.sampling import SamplingParams
from seralign.records import Candidate, Prompt, content_id

_KEY = "sampling.json"


@dataclass(frozen=True)
class Asked:
    """A prompt as text or messages, and as the policy reads it, or why it cannot be asked."""

    given: Content | None
    prompt: Prompt | str


@dataclass(frozen=True)
class Answered:
    """A prompt, its answers, and why there are none."""

    given: Content | None
    prompt: Prompt | None
    responses: list[Candidate]
    left_out: str | None

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
    batch_size: int,
    seed: int,
    parts: Path,
) -> Iterator[Answered]:
    """Sample ``params.samples`` answers to each prompt, in order; equal prompts have equal answers.

    Args:
        speaker: Who answers.
        asked: The prompts; those that cannot be asked, or leave no room for an answer, come back without responses.
        params: The distribution.
        policy: Digest of the policy.
        batch_size: Prompts sampled together.
        seed: The same seed and prompts give the same answers.
        parts: A folder for finished batches; a killed sampling resumes from those of the same policy, prompts and
            settings.

    Raises:
        DataError: no prompt can be asked.
        ModelError: the model's logits are no distribution.
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
    settings = asdict(params) | {"seed": seed, "batch_size": batch_size, "policy": policy}
    _keep_parts_of(parts, {"settings": settings, "prompts": content_id(list(different))})
    write_prompts(parts / "prompts.arrow", different.values())
    candidates = candidates_of(
        sample_candidates(
            read_table(parts / "prompts.arrow"),
            lambda: speaker.model,
            speaker.reader.tokenizer,
            params,
            speaker.reader.end_tokens,
            batch_size=batch_size,
            seed=seed,
            parts=parts / "batches",
            label="answers",
        )
    )
    answers: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        answers.setdefault(candidate.prompt_id, []).append(candidate)
    for one, reason in zip(asked, reasons, strict=True):
        prompt = one.prompt if isinstance(one.prompt, Prompt) else None
        responses = answers[prompt.prompt_id] if prompt is not None and reason is None else []
        yield Answered(one.given, prompt, responses, reason)


def _reason(speaker: Speaker, prompt: Prompt | str, params: SamplingParams) -> str | None:
    """Why a prompt is not asked, or None."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt.ids) + params.max_new_tokens > speaker.window:
        return f"prompt and max_new_tokens are more than the model's {speaker.window} positions"
    return None


def _keep_parts_of(parts: Path, key: dict[str, Any]) -> None:
    """Empty the folder unless its batches are those of this very sampling."""
    file = parts / _KEY
    try:
        same = json.loads(file.read_text(encoding="utf-8")) == key
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_json(file, key)

"""Linear Alignment as an engine: answers in halves where memory is not enough."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from seralign.config import PolicyConfig
from seralign.config.linear_alignment import LinearAlignmentConfig
from seralign.policy.identity import PolicySource
from seralign.policy.sampling import SamplingParams
from seralign.records import Prompt
from seralign.sampling import linear_alignment
from seralign.sampling.base import Request, SampledPolicy
from seralign.sampling.linear_alignment import AlignedSampler

END = frozenset({tiny.EOS})
PROMPTS = tuple(Prompt(f"p{at}", "", ids) for at, ids in enumerate([(5, 9, 4, 7, 3), (8, 6, 3), (9, 4, 7, 3)]))
WITHOUT = {"p0": (4, 7, 3), "p1": (6, 3), "p2": (7, 3)}


def test_lack_of_memory_halves_the_batch_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = tiny.make_model("llama").double(), tiny.make_tokenizer()
    policy = SampledPolicy(
        "policy", PolicySource("nowhere"), "float64", "default", tokenizer, END, lambda: model, PolicyConfig()
    )
    sampler = AlignedSampler(policy, LinearAlignmentConfig("short", 2.0), WITHOUT, 8, "--principle")
    request = Request("digest", sampler.identity, PROMPTS, SamplingParams(2, 1.0, 1.0, 6), END, 3)
    [(asked, whole)] = sampler.sample([request])
    assert asked is request
    assert [one.prompt_id for one in whole] == ["p0", "p0", "p1", "p1", "p2", "p2"]

    sizes: list[int] = []
    sample = linear_alignment.sample_aligned

    def small(model: Any, tokenizer: Any, prompts: Any, without: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert [tuple(ids) for ids in without] == [WITHOUT[prompt.prompt_id] for prompt in prompts]
        return sample(model, tokenizer, prompts, without, *args, **kwargs)

    monkeypatch.setattr(linear_alignment, "sample_aligned", small)
    assert list(sampler.sample([request])) == [(request, whole)]
    # Once three are too many, two are halved without another try.
    assert sizes == [3, 1, 1, 1]
    assert capsys.readouterr().err.count("out of memory: batch_size is halved") == 1

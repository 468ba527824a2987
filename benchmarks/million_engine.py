"""A sampling engine of no cost: responses of random words, so that a run shows what all else takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.growth import WORDS
from seralign.config import SamplingConfig
from seralign.records import Candidate
from seralign.sampling import Request, SampledPolicy


class Random:
    """Answers each prompt with responses of 4 to 7 random words; equal requests get equal responses."""

    identity = "random words"
    prompts_per_request = 16
    in_every_process = True

    def __init__(self, policy: SampledPolicy, settings: SamplingConfig, key: str) -> None:
        self._tokenizer, self._end = policy.tokenizer, max(policy.end_tokens)

    def sample(self, requests: Iterable[Request], watch: object = None) -> Iterator[tuple[Request, list[Candidate]]]:
        """See ``seralign.sampling.Sampler.sample``."""
        for request in requests:
            random = np.random.default_rng(int.from_bytes(request.key[:8]))
            places = [
                (prompt.prompt_id, index) for prompt in request.prompts for index in range(request.params.samples)
            ]
            texts = ["".join(f" {WORDS[at]}" for at in random.integers(0, len(WORDS), count))
                     for count in random.integers(4, 8, len(places))]  # fmt: skip
            ids = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
            found = zip(places, texts, ids, strict=True)
            yield request, [Candidate(*place, text, (*own, self._end), True) for place, text, own in found]

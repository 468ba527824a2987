"""The built-in engine with Linear Alignment (2401.11458)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from torch import nn

from seralign.config.linear_alignment import LinearAlignmentConfig
from seralign.policy.sampling import sample_aligned
from seralign.policy.ways import check_shared
from seralign.records import Candidate
from seralign.sampling.base import Request, SampledPolicy, Watch
from seralign.sampling.local import Grow, Prompts, answered, local_identity


class AlignedSampler:
    """Samples with the model in memory. Prompts contain the principle; every token takes two forward passes.

    Args:
        policy: The policy.
        alignment: Principle and step.
        without: The ids of each prompt without the principle, by the id of the prompt with it.
        batch_size: Prompts sampled together.
        key: The configuration key of the alignment, for messages.
    """

    def __init__(
        self,
        policy: SampledPolicy,
        alignment: LinearAlignmentConfig,
        without: Mapping[str, Sequence[int]],
        batch_size: int,
        key: str,
    ) -> None:
        self._policy, self._alignment, self._without = policy, alignment, without
        self._batch_size, self._key = batch_size, key

    @property
    def identity(self) -> str:
        """That of the local engine, with the principle and the step."""
        how = f"linear alignment, step {self._alignment.step!r}, {self._alignment.principle!r}"
        return f"{local_identity(self._policy)}, {how}"

    @property
    def prompts_per_request(self) -> int:
        """Prompts sampled together."""
        return self._batch_size

    @property
    def in_every_process(self) -> bool:
        """Each process loads the model."""
        return True

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None
    ) -> Iterator[tuple[Request, list[Candidate]]]:
        """See ``seralign.sampling.Sampler.sample``; in the order of the requests.

        Raises:
            ModelError: the model's logits are NaN or infinite, or it has no cache that its prompts can share.
        """

        def sampled(prompts: Prompts, request: Request, grow: Grow | None) -> list[Candidate]:
            return sample_aligned(
                self._model,
                self._policy.tokenizer,
                prompts,
                [self._without[prompt.prompt_id] for prompt in prompts],
                self._alignment.step,
                request.params,
                request.end_tokens,
                request.seed,
                watch=grow,
            )

        return answered(self._policy, requests, watch, sampled)

    @cached_property
    def _model(self) -> nn.Module:
        model = self._policy.load().eval()
        check_shared(model, self._key)
        return model

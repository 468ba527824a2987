"""The built-in engine: the model in this process, one batch of prompts at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain

from torch import Tensor, nn

from seralign.config import SamplingConfig
from seralign.errors import ConfigError
from seralign.policy.machine import computed_with
from seralign.policy.memory import Halving
from seralign.policy.sampling import sample
from seralign.records import Candidate, Prompt
from seralign.sampling.base import Request, SampledPolicy, Watch

Prompts = tuple[Prompt, ...]
# Called with the tokens [R] of each step.
Grow = Callable[[Tensor], None]


class LocalSampler:
    """Samples with the model in memory, by the fastest method that agrees with full forward passes
    (``policy/ways.py``).

    The model is loaded at the first request, and released with the sampler. A request is a batch of
    ``settings.batch_size`` prompts. Which prompts are computed together affects rounding, so a batch is always sampled
    as a whole, and in halves only where memory is not enough.
    """

    def __init__(self, policy: SampledPolicy, settings: SamplingConfig, key: str) -> None:
        if settings.engine_options:
            raise ConfigError(
                f"{key}.engine_options: engine local has none, got {', '.join(sorted(settings.engine_options))}"
            )
        self._policy = policy
        self._settings = settings

    @property
    def identity(self) -> str:
        """Data type, library and device of the logits, because others round differently."""
        return local_identity(self._policy)

    @property
    def prompts_per_request(self) -> int:
        """Prompts sampled together."""
        return self._settings.batch_size

    @property
    def in_every_process(self) -> bool:
        """Each process loads the model."""
        return True

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None
    ) -> Iterator[tuple[Request, list[Candidate]]]:
        """See ``seralign.sampling.Sampler.sample``; in the order of the requests.

        Raises:
            ModelError: the model's logits are NaN or infinite.
        """

        def sampled(prompts: Prompts, request: Request, grow: Grow | None) -> list[Candidate]:
            model, tokenizer = self._model, self._policy.tokenizer
            return sample(model, tokenizer, prompts, request.params, request.end_tokens, request.seed, watch=grow)

        return answered(self._policy, requests, watch, sampled)

    @cached_property
    def _model(self) -> nn.Module:
        return self._policy.load().eval()


def local_identity(policy: SampledPolicy) -> str:
    """What answers of a model in this process depend on besides the request."""
    return f"local, {policy.dtype} weights, {policy.attention} attention, {computed_with()}"


def answered(
    policy: SampledPolicy,
    requests: Iterable[Request],
    watch: Watch | None,
    sampled: Callable[[Prompts, Request, Grow | None], list[Candidate]],
) -> Iterator[tuple[Request, list[Candidate]]]:
    """The answers to requests in their order, each sampled at once, or in halves where memory is not enough.

    Args:
        policy: The policy.
        requests: What is asked.
        watch: Gets the text of the first response as it grows.
        sampled: Answers prompts of a request; calls the last argument with the tokens of each step.
    """
    halving = Halving[Prompts]("batch_size", len)
    for request in requests:

        def of(prompts: Prompts, request: Request = request) -> list[Candidate]:
            return sampled(prompts, request, None if watch is None else _growing(policy, request, watch))

        yield request, list(chain.from_iterable(halving.run(request.prompts, of)))


def _growing(policy: SampledPolicy, request: Request, watch: Watch) -> Grow:
    """Decodes the tokens of the first response so far, until it ends."""
    ids: list[int] = []

    def grow(tokens: Tensor) -> None:
        ids.append(int(tokens[0]))
        if not request.end_tokens.intersection(ids):
            watch(str(policy.tokenizer.decode(ids, skip_special_tokens=True)))

    return grow

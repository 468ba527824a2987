"""The contract of sampling engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from torch import nn
from transformers import PreTrainedTokenizerBase

from seralign.config import PolicyConfig, SamplingConfig
from seralign.policy.identity import PolicySource
from seralign.policy.sampling import SamplingParams
from seralign.records import Candidate, Prompt
from seralign.runs.results import result_key

# Called with the text of a response so far, while it grows.
Watch = Callable[[str], None]


@dataclass(frozen=True)
class SampledPolicy:
    """A policy to sample from, in the forms that engines need.

    Args:
        name: Name of the policy, for messages.
        source: Local folders in the format of transformers: the model, and its adapter if there is one. An engine that
            serves the policy elsewhere loads these, or merges them with ``whole_model``.
        dtype: Data type of the weights for sampling.
        attention: Attention implementation that ``load`` uses; ``default`` is that of the model.
        tokenizer: Tokenizer with its chat template. Only ids in its vocabulary may be sampled.
        end_tokens: Ids that end a response.
        load: Returns the model in memory, in this process.
        loading: How ``load`` loads the folders: data type, attention, and whether code of the model is trusted.
        before: The policy before it in the run, which a server that was not restarted still serves; None if there is
            none, or it has the same weights.
    """

    name: str
    source: PolicySource
    dtype: str
    attention: str
    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]
    load: Callable[[], nn.Module]
    loading: PolicyConfig
    before: SampledPolicy | None = None


@dataclass(frozen=True)
class Request:
    """Prompts that are sampled together, and everything else that their responses depend on.

    Args:
        policy: Digest of the weights of the policy.
        engine: The ``identity`` of the engine.
        prompts: Prompts with their id, text and token ids. The engine continues the token ids.
        params: The sampling distribution, and the number of responses per prompt.
        end_tokens: Ids that end a response.
        seed: Seed. The random numbers of a response depend only on the seed, the id of the prompt and the index of the
            response. So equal requests give equal responses, and no two responses use the same random numbers.
    """

    policy: str
    engine: str
    prompts: tuple[Prompt, ...]
    params: SamplingParams
    end_tokens: frozenset[int]
    seed: int

    @property
    def key(self) -> bytes:
        """Identity of the request: a digest of all fields."""
        content = {
            "policy": self.policy,
            "engine": self.engine,
            "prompts": [[prompt.prompt_id, prompt.text, list(prompt.ids)] for prompt in self.prompts],
            "params": asdict(self.params),
            "end_tokens": sorted(self.end_tokens),
            "seed": self.seed,
        }
        return result_key("sample", content)


class Sampler(Protocol):
    """A sampling engine for one policy: prompts in, candidates out.

    An engine is a class (or a function) that is called with ``(policy, settings, key)``: a ``SampledPolicy``, a
    ``SamplingConfig``, and the name of the section for messages (``bootstrap`` or ``evaluation``). It is called once
    per section at the start of the run, with the policy that the run begins with, and again for each policy that is
    sampled from. So it must be cheap: no model is loaded and no server is started before the first request. If the
    engine does not support a setting, in ``settings`` or in ``settings.engine_options``, it raises a ``ConfigError``
    that begins with the key.

    ``identity`` names everything about the engine that can change its responses: its name and version, data type,
    device. Stored responses are only used for the same identity.

    ``prompts_per_request`` is the number of prompts in a request. If the numerical results of an engine depend on which
    prompts are computed together, it must return ``settings.batch_size``, so that a resumed run computes the same
    batches. An engine that schedules requests by itself, such as a server, returns 1.

    ``in_every_process`` applies to runs with several processes (``torchrun``). If it is true, each process samples a
    share of the requests with its own engine. If it is false, only the main process sends requests, as is right for a
    server.
    """

    @property
    def identity(self) -> str: ...

    @property
    def prompts_per_request(self) -> int: ...

    @property
    def in_every_process(self) -> bool: ...

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None
    ) -> Iterator[tuple[Request, list[Candidate]]]:
        """Answer each request once, and yield it with its candidates as soon as they are complete, in any order.

        Each answer is stored when it is yielded, and the request is not made again, even if the run is killed later. A
        slow or asynchronous engine may take several requests from the iterable before it yields the first answer.

        Args:
            requests: The requests. They are created while they are taken.
            watch: Called with the text of a single response while it grows, for interactive use. An engine that only
                returns whole responses does not call it.

        Yields:
            A request and its candidates, ``params.samples`` per prompt, in the order of the prompts and of their index.
            A server may answer with text that is no token ids of the policy; built-in engines leave such responses out.
            ``ids`` are the sampled ids, including the end token. ``finished`` is false if the response was cut at
            ``max_new_tokens``. ``text`` is decoded without special tokens.

        Raises:
            SeralignError: an error that the user can fix. Other exceptions of an engine named as ``module:class`` are
                reported as errors of this class. Answers that were yielded before are kept.
        """
        ...


Engine = Callable[[SampledPolicy, SamplingConfig, str], Sampler]


def params_of(settings: SamplingConfig, samples: int, max_new_tokens: int | None = None) -> SamplingParams:
    """The sampling distribution of a section; ``max_new_tokens`` overrides the limit of the section."""
    limit = settings.limit if max_new_tokens is None else max_new_tokens
    return SamplingParams(samples, settings.temperature, settings.top_p, limit)

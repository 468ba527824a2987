"""The contract between a run and what samples its responses."""

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

# Gets the text of a response so far, as it grows.
Watch = Callable[[str], None]


@dataclass(frozen=True)
class SampledPolicy:
    """A policy to sample from, in the forms that engines need.

    Args:
        name: For people.
        source: Local folders, in transformers' format: the model, and the adapter on it where there is one. An engine
            that serves the policy elsewhere opens these, or has ``whole_model`` merge the two.
        dtype: Data type of the weights to sample with.
        attention: Implementation of attention that ``load`` chooses; ``default`` is the model's own.
        tokenizer: With its chat template; its vocabulary is the ids that may be sampled.
        end_tokens: Ids that end a response.
        load: The model in memory, in this process.
        loading: How ``load`` opens the folders: data type, attention, whether code of the model's own is trusted.
    """

    name: str
    source: PolicySource
    dtype: str
    attention: str
    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]
    load: Callable[[], nn.Module]
    loading: PolicyConfig


@dataclass(frozen=True)
class Request:
    """Prompts that are sampled together, and all that their responses depend on beside the engine.

    Args:
        policy: Digest of the policy's weights.
        engine: The engine's ``identity``.
        prompts: Each with its id, its text and its token ids. The ids are what is to be continued.
        params: The distribution, and the number of responses a prompt.
        end_tokens: Ids that end a response.
        seed: Of everything drawn. Random numbers of a response depend on it, on the prompt's id and on the response's
            index, so that equal requests have equal answers and no two responses have the same numbers.
    """

    policy: str
    engine: str
    prompts: tuple[Prompt, ...]
    params: SamplingParams
    end_tokens: frozenset[int]
    seed: int

    @property
    def key(self) -> bytes:
        """Identity of all of this."""
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
    """An engine that samples from one policy: prompts in, candidates out.

    An engine is a class, or a function, that is called with ``(policy, settings, key)``: a ``SampledPolicy``, the
    section ``SamplingConfig``, and the section's whole name for messages (``bootstrap.sampling``). It is called once at
    the start of a run, for every section that names it, with the policy that the run begins with; and again for each
    policy that is sampled. So it has to be cheap: no model is loaded and no server started before the first request. A
    setting that the engine cannot honour, of ``settings`` or of its own in ``settings.engine_options``, is refused
    there with a ``ConfigError`` that begins with the key.

    ``identity`` names everything about the engine that can change what it answers: its name and version, data type,
    device. Results of one identity are not taken for those of another.

    ``prompts_per_request`` is how many prompts come in a request. An engine whose rounding depends on which prompts are
    computed together asks for whole batches, of ``settings.batch_size``, so that a sampling that was killed ends with
    the same responses as one that was not. An engine that schedules requests itself, such as a server, asks for 1.

    ``in_every_process`` says whether, of several processes (``torchrun``), each samples a share of the requests with an
    engine of its own. Where it is false, the main process alone asks: right for a server.
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
        """Answer each request once, and yield it with its candidates as soon as they are there, in any order.

        Each answer is stored when it is yielded, and never asked again, also when the run is killed later. A slow or
        asynchronous engine takes as many requests from the iterable as it can have under way, and yields what is
        finished first.

        Args:
            requests: What to sample. They are made as they are taken.
            watch: Gets the text of a single response as it grows. It is for people who wait: an engine that gives whole
                responses only does not call it.

        Yields:
            A request and its candidates, ``params.samples`` a prompt, in the order of the prompts and of their index.
            ``ids`` are the sampled ids, with the end token where ``finished``; ``finished`` is false where the response
            was cut at ``max_new_tokens``; ``text`` is decoded from them without special tokens.

        Raises:
            SeralignError: what the user can mend. Anything else that an engine named as ``module:class`` raises is
                shown as its failure. What was yielded before is kept.
        """
        ...


Engine = Callable[[SampledPolicy, SamplingConfig, str], Sampler]


def params_of(settings: SamplingConfig, samples: int, max_new_tokens: int | None = None) -> SamplingParams:
    """The distribution of a section; ``max_new_tokens`` where another section says what its null stands for."""
    limit = settings.limit if max_new_tokens is None else max_new_tokens
    return SamplingParams(samples, settings.temperature, settings.top_p, limit)

"""Sampling engines by name. To add one, write a file here and a line in ``ENGINES``."""

from __future__ import annotations

from seralign.config import LOCAL, SamplingConfig
from seralign.errors import ConfigError
from seralign.plugins import load_plugin, plugin_errors
from seralign.policy.sampling import SamplingParams
from seralign.sampling.base import Engine, Request, SampledPolicy, Sampler, params_of
from seralign.sampling.candidates import CANDIDATE_SCHEMA, candidates_of, sample_candidates
from seralign.sampling.checked import CheckedSampler
from seralign.sampling.local import LocalSampler
from seralign.sampling.server import ServerSampler
from seralign.sampling.vllm import VllmSampler
from seralign.sampling.whole import whole_model

__all__ = [
    "CANDIDATE_SCHEMA",
    "ENGINES",
    "Request",
    "SampledPolicy",
    "Sampler",
    "SamplingParams",
    "candidates_of",
    "make_sampler",
    "params_of",
    "sample_candidates",
    "whole_model",
]

ENGINES: dict[str, Engine] = {
    LOCAL: LocalSampler,
    "server": ServerSampler,
    "vllm": VllmSampler,
}


def make_sampler(policy: SampledPolicy, settings: SamplingConfig, key: str) -> Sampler:
    """Make the sampling engine of a section, for a policy.

    Args:
        policy: The policy to sample from.
        settings: The section.
        key: The name of the section, for messages: ``bootstrap`` or ``evaluation``.

    Raises:
        ConfigError: there is no such engine, or it does not support a setting; names the key.
    """
    if settings.engine in ENGINES:
        return ENGINES[settings.engine](policy, settings, key)
    name = f"{key}.engine"
    if ":" not in settings.engine:
        raise ConfigError(
            f"{name} must be one of {', '.join(ENGINES)}, or module:class of your own, got {settings.engine!r}"
        )
    engine = load_plugin(settings.engine, name, "class")
    with plugin_errors(name, settings.engine):
        return CheckedSampler(engine(policy, settings, key), name, settings.engine, policy.tokenizer)

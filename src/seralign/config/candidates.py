"""The configuration of ``seralign sample``: prompts, models and temperatures. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.data import SourceConfig
from seralign.config.fields import INLINE, keys_below
from seralign.config.linear_alignment import LinearAlignmentConfig
from seralign.config.sampling import SamplingConfig
from seralign.config.sections import check_known, check_section, load_sections
from seralign.config.values import build
from seralign.errors import ConfigError


@dataclass(frozen=True)
class SampleConfig:
    """The configuration of a sampling.

    Args:
        out: The file of candidates, .jsonl.
        prompts: Rows of prompts, as in ``data.prompts`` of a run.
        models: Folders of runs, models or adapters, or names of models on the hub.
        temperatures: Sampling temperatures. Default: ``temperature``.
        samples: Responses of each model to each prompt at each temperature.
        sampling: How they are sampled.
        seed: Seed. The random numbers of each model and temperature are others.
        duplicates: Which responses to a prompt are dropped as repeated: ``exact``, equal text; ``spaces``, equal up to
            white space; ``keep``, none. The first one stays.
        unfinished: What to do with responses that were cut at ``max_new_tokens``: ``keep`` or ``drop``.
        rows: What a line has: a ``prompt`` with all its responses, or one ``response``.
        linear_alignment: A principle that the responses are aligned to as they are sampled (docs/method.md).
        system: A system message that is put before every conversation, in place of the run's.
        plain: Read prompts as plain text to continue, even for a model with a chat template.
        format: ``data.format`` for the prompts, in place of the runs'. Runs that read a row differently need it.
    """

    out: str
    prompts: SourceConfig
    models: list[str]
    temperatures: list[float] | None = None
    samples: int = 4
    sampling: SamplingConfig = field(default_factory=SamplingConfig, metadata=INLINE)
    seed: int = 0
    duplicates: Literal["exact", "spaces", "keep"] = "spaces"
    unfinished: Literal["keep", "drop"] = "keep"
    rows: Literal["prompt", "response"] = "prompt"
    linear_alignment: LinearAlignmentConfig | None = None
    system: str | None = None
    plain: bool = False
    format: Literal["auto", "hh"] | None = None

    def __post_init__(self) -> None:
        require(Path(self.out).suffix == ".jsonl", "out", "a file that ends with .jsonl", self.out)
        require(bool(self.models), "models", "a list of at least one model", self.models)
        require(len(set(self.models)) == len(self.models), "models", "a list of different models", self.models)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        positive(self.samples, "samples")
        if self.temperatures is None and self.samples > 1:
            positive(self.sampling.temperature, "temperature")
        if self.temperatures is not None:
            different = len(set(self.temperatures)) == len(self.temperatures) > 0
            require(different, "temperatures", "a list of different temperatures", self.temperatures)
            for place, temperature in enumerate(self.temperatures):
                positive(temperature, f"temperatures[{place}]")

    @property
    def all_temperatures(self) -> list[float]:
        """``temperatures``, or their default."""
        return [self.sampling.temperature] if self.temperatures is None else self.temperatures


def load_sample_config(path: str | Path, overrides: dict[str, Any] | None = None) -> SampleConfig:
    """Read the configuration of a sampling from a YAML file and overrides.

    Args:
        path: YAML file; each key is a field of ``SampleConfig`` or of ``SamplingConfig``.
        overrides: Keys of the top level and keys of ``prompts`` (``prompts.limit``) to values.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is not allowed; names the key.
    """
    return load_sections(path, overrides, ("prompts", "linear_alignment"), _sample_config)


def _sample_config(values: dict[str, Any]) -> SampleConfig:
    check_known(list(keys_below(SampleConfig)), values)
    check_section(SourceConfig, values.get("prompts"), "prompts")
    check_section(LinearAlignmentConfig, values.get("linear_alignment"), "linear_alignment")
    if values.get("temperatures") is not None and "temperature" in values:
        raise ConfigError("temperature and temperatures exclude each other: set one of them")
    return build(SampleConfig, values)

"""What the data are, and the world that stands in for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seralign.config.checks import positive, require


@dataclass(frozen=True)
class SourceConfig:
    """Where rows come from.

    Args:
        path: A local .json, .jsonl, .parquet or .csv file (also .gz), or a data set's name on the hub.
        name: Configuration (subset) of a hub data set.
        split: Split of a hub data set.
        revision: Commit or tag of a hub data set; recorded as resolved.
        columns: Our column name to the file's, e.g. ``{chosen: good, rejected: bad}``.
        limit: Read only the first rows.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None


@dataclass(frozen=True)
class DataConfig:
    """Pairs, prompts and demonstrations, and how they become tokens.

    Args:
        pairs: Preference pairs to train on.
        heldout: Pairs for held-out metrics; by default ``heldout_fraction`` of the prompts of ``pairs``.
        heldout_fraction: Share of prompts set aside when ``heldout`` is not given.
        prompts: Prompts for bootstrapping; by default the prompts of ``pairs``.
        demonstrations: Prompt and response rows for ``sft``; by default the chosen responses of ``pairs``.
        max_length: Most tokens of prompt and response together.
        max_prompt_length: Most tokens of a prompt. Default: three quarters of ``max_length``.
        overlong: What happens to a prompt or response beyond its limit: ``cut`` keeps the end of the prompt and the
            start of the response, ``drop`` drops the pair.
        as_chat: Make plain prompts and responses turns of a conversation, for a model with a chat template.
        system: A system message put before every conversation that has none.
    """

    pairs: SourceConfig | None = None
    heldout: SourceConfig | None = None
    heldout_fraction: float = 0.05
    prompts: SourceConfig | None = None
    demonstrations: SourceConfig | None = None
    max_length: int = 1024
    max_prompt_length: int | None = None
    overlong: Literal["cut", "drop"] = "cut"
    as_chat: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        require(0.0 <= self.heldout_fraction < 1.0, "heldout_fraction", "in [0, 1)", self.heldout_fraction)
        require(self.max_length >= 2, "max_length", "at least 2", self.max_length)
        limit = self.max_prompt_length
        require(
            limit is None or 0 < limit < self.max_length,
            "max_prompt_length",
            f"between 1 and max_length - 1 = {self.max_length - 1}",
            limit,
        )

    @property
    def prompt_limit(self) -> int:
        """Most tokens of a prompt."""
        return self.max_prompt_length or max(1, self.max_length * 3 // 4)


@dataclass(frozen=True)
class WorldConfig:
    """The built-in world: a small language with a known gold reward, made on the spot.

    It supplies the model, tokenizer, pairs, prompts, demonstrations and scorer that the configuration leaves out.

    Args:
        pairs: Offline preference pairs.
        demonstrations: Supervised texts.
        prompts: Prompts for bootstrapping.
        heldout: Held-out pairs; their prompts are the evaluation's.
        noise: Probability that a label is flipped.
        gold_strength: How strongly the labeller follows the gold reward.
        length_strength: How strongly the labeller prefers the longer response: the spurious feature.
        seed: Seed of the world; the run's seed does not change it.
    """

    pairs: int = 4000
    demonstrations: int = 20000
    prompts: int = 4000
    heldout: int = 1000
    noise: float = 0.2
    gold_strength: float = 2.0
    length_strength: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("pairs", "demonstrations", "prompts", "heldout"):
            positive(getattr(self, key), key)
        require(0.0 <= self.noise <= 1.0, "noise", "in [0, 1]", self.noise)

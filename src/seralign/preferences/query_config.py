"""The configuration of ``seralign query``: candidates, and which pairs of them to have labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seralign.checks import require
from seralign.config.fields import keys_below
from seralign.config.query import Strategy
from seralign.config.sections import check_known, check_section, load_sections
from seralign.config.values import build
from seralign.errors import ConfigError
from seralign.preferences.config import OUTPUTS, RowsConfig


@dataclass(frozen=True)
class QueryFileConfig:
    """The configuration of a labelling queue.

    Args:
        queue: The queue, .jsonl.
        out: The file of preferences that is written when the queue has labels, .jsonl or .parquet.
        data: The rows with candidates.
        budget: Number of pairs to label. Each prompt gives one pair at most.
        strategy: How they are chosen: ``uncertainty``, ``disagreement``, ``coreset`` or ``random``.
        reward_models: Folders of reward models. With them, the pair of a prompt is the responses with the highest and
            the lowest mean reward; without, two that are drawn at random.
        allow_partial: Write the pairs that have a label, and leave out the others.
        seed: Seed of everything that is drawn.
    """

    queue: str
    out: str
    data: RowsConfig
    budget: int
    strategy: Strategy
    reward_models: list[str] = field(default_factory=list)
    allow_partial: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require(Path(self.queue).suffix == ".jsonl", "queue", "a file that ends with .jsonl", self.queue)
        require(Path(self.out).suffix in OUTPUTS, "out", f"a file that ends with {' or '.join(OUTPUTS)}", self.out)
        require(self.out != self.queue, "out", "another file than queue", self.out)
        require(self.budget >= 1, "budget", "at least 1", self.budget)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        least = {"uncertainty": 1, "disagreement": 2}.get(self.strategy, 0)
        if len(self.reward_models) < least:
            raise ConfigError(
                f"strategy: {self.strategy} needs {least} reward_models or more, got {len(self.reward_models)}; give "
                "them, or set coreset or random"
            )


def load_query_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> QueryFileConfig:
    """Read the configuration of a queue from a YAML file and overrides.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is not allowed; names the key.
    """
    return load_sections(path, overrides, ("data",), query_config)


def query_config(values: Mapping[str, Any]) -> QueryFileConfig:
    """The configuration of nested plain values.

    Raises:
        ConfigError: See ``load_query_config``.
    """
    check_known(list(keys_below(QueryFileConfig)), values)
    check_section(RowsConfig, values.get("data"), "data")
    return build(QueryFileConfig, dict(values))

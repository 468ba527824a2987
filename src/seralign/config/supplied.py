"""The configuration of a run in a built-in world, completed from the world's files. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from seralign.config.data import SourceConfig
from seralign.config.run import RunConfig


def supplied(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration, completed from a world's folder: data; and model and demonstrations if the world has them."""

    def source(name: str, given: SourceConfig | None) -> SourceConfig | None:
        path = folder / f"{name}.jsonl"
        return given or (SourceConfig(path=str(path)) if path.is_file() else None)

    data, model = config.data, config.policy.model
    return replace(
        config,
        policy=replace(config.policy, model=model or str(folder / "model")),
        data=replace(
            data,
            pairs=source("pairs", data.pairs),
            heldout=source("heldout", data.heldout),
            prompts=source("prompts", data.prompts),
            demonstrations=source("demonstrations", data.demonstrations) if config.supervised else None,
        ),
    )

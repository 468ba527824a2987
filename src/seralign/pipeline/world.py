"""The stage that makes a world, which completes the configuration with data and sometimes a model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seralign import distributed
from seralign.config import OwnWorldConfig, RunConfig, WorldConfig
from seralign.data.sources import fingerprint
from seralign.errors import ConfigError
from seralign.laboratory.own import OwnWorld
from seralign.laboratory.world import make_world
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import ENCODING, FORWARD, settings
from seralign.pipeline.own_world import make_own_world
from seralign.pipeline.stage import carry_out
from seralign.pipeline.start import Start, started
from seralign.policy.load import end_tokens, load_tokenizer, tokenizer_inputs
from seralign.records import content_id
from seralign.runs import Run
from seralign.runs.figures import WorldFigures
from seralign.runs.layout import WORLD

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class World:
    """The stage that makes the world of ``config``."""

    config: WorldConfig
    name: str = WORLD

    def inputs(self, start: Start) -> dict[str, str]:
        """The section; for the world ``own`` also the policy that answers its prompts, the prompts and the scorer."""
        inputs = {"world": content_id(dataclasses.asdict(self.config))}
        if self.config.own is not None:
            return inputs | self._own_inputs(start, self.config.own)
        if start.given.policy.model is not None:
            _ = start.source  # checks the model before the world is made
        return inputs

    def work(self, start: Start, folder: Path) -> WorldFigures:
        """Write the world's files."""
        if self.config.own is not None:
            return make_own_world(start.given, OwnWorld(self.config), start.base, start.results, folder)
        if distributed.is_main():
            make_world(self.config, folder)
        return WorldFigures()

    def tell(self, start: Start) -> None:
        """Nothing to report."""

    def cost(self, forecast: Forecast) -> StageWork:
        """A plan makes the world."""
        return StageWork(self.name, 0, "pairs")

    def _own_inputs(self, start: Start, own: OwnWorldConfig) -> dict[str, str]:
        config = start.given
        if config.policy.model is None:
            raise ConfigError("policy.model is missing: with world.name: own, it samples the responses")
        made, policy = OwnWorld(self.config), start.base
        tokenizer = load_tokenizer(policy.source, config.policy)
        inputs = {
            "policy.model": policy.digest,
            "world.own.prompts": fingerprint(own.prompts, "world.own.prompts"),
            "world.own.scorer": made.key()["scorer"],
        }
        inputs |= tokenizer_inputs(tokenizer, end_tokens(policy.source, tokenizer))
        return inputs | settings(config, *ENCODING, *FORWARD, "scoring.dtype")


def with_world(run: Run, given: RunConfig, store: Path | None = None) -> RunConfig:
    """The configuration, completed from its world, which is made in the folder if it is not there.

    Args:
        run: Where the world is.
        given: The configuration.
        store: File with sampled responses, for several worlds of one's own that differ only in their labels. By
            default, the run's own.

    Raises:
        ModelError: a configured model cannot be trained.
    """
    with started(run, given, None, store) as start:
        if given.world is not None:
            carry_out(run, World(given.world), start)
        return start.config

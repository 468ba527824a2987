"""The stage that reads, tokenizes and splits the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seralign.pipeline.checks import check_tables
from seralign.pipeline.data import data_inputs, write_tables
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.remarks import remarks
from seralign.progress import say
from seralign.runs.data_figures import DataFigures
from seralign.runs.layout import DATA
from seralign.tables import counted

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast
    from seralign.pipeline.start import Start


@dataclass(frozen=True)
class Data:
    """The stage that reads, tokenizes and splits the data.

    All checks run before the stage is finished, because a finished stage ties the folder to its configuration.
    """

    name: str = DATA

    def inputs(self, start: Start) -> dict[str, str]:
        """The sources, how they are read and tokenized, and the tokenizer."""
        loop = start.loop
        _ = start.reference  # checks the reference before the data are read
        return data_inputs(loop.config, loop.tokenizer, loop.end_tokens)

    def work(self, start: Start, folder: Path) -> DataFigures | None:
        """Write the tables, and check them against the whole configuration."""
        loop = start.loop
        check = partial(check_tables, loop.config, loop.judge)
        return write_tables(loop.config, loop.tokenizer, loop.end_tokens, folder, check)

    def tell(self, start: Start) -> None:
        """Report how many rows of each source were kept."""
        _tell(start.run.figures(self.name, DataFigures))

    def cost(self, forecast: Forecast) -> StageWork:
        """A plan reads the data."""
        return StageWork(self.name, len(forecast.context.tables.pairs), "pairs")


def _tell(figures: DataFigures) -> None:
    """Report how many rows of each source were kept."""
    for name, source in figures.sources.items():
        counts = [counted(source.located(each)) for each in (source.dropped, source.noted) if each]
        shown = f" ({', '.join(counts)})" if counts else ""
        say(f"data.{name}: {source.kept} of {source.read} rows kept{shown}")
        for line in remarks(name, source):
            say(line)
    if shared := figures.heldout_prompts_also_trained_on:
        say(f"warning: {shared} held-out prompts are also trained on or sampled for training")

"""The prompts of a run that makes its pairs of demonstrations and has no others."""

from __future__ import annotations

from pathlib import Path

from seralign.config import RunConfig
from seralign.data.prepare import heldout_rows
from seralign.data.table import read_table, write_prompts_of, write_subset
from seralign.runs.layout import DEMONSTRATIONS, HELDOUT_PROMPTS, PROMPTS

_ALL = "all.arrow"


def split_demonstrations(config: RunConfig, folder: Path) -> None:
    """Write the prompts of the demonstrations in a folder. Unless held-out prompts or pairs are given, the prompts of a
    share of the demonstrations are held out, which are left out of the table."""
    data = config.data
    splits = data.heldout is None and data.heldout_prompts is None
    (folder / DEMONSTRATIONS).rename(folder / _ALL)
    shown = read_table(folder / _ALL)
    held_out = heldout_rows(shown, data.heldout_fraction if splits else 0.0, config.seed)
    if splits:
        # Only their prompts are held out: one response is no pair.
        write_prompts_of(folder / HELDOUT_PROMPTS, write_subset(folder / DEMONSTRATIONS, shown, held_out))
    write_prompts_of(folder / PROMPTS, write_subset(folder / DEMONSTRATIONS, shown, ~held_out))
    (folder / _ALL).unlink()

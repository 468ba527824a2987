"""What each correction of length would pair of the answers that a round sampled, without running it again.

    python -m examples.alpaca_eval.corrections runs/alpaca_eval_smollm2 [--round 2] [--band 0.2]

The run must have ``scoring.length_correction: none``, so that its rewards are not corrected. The same share of pairs is
kept as in the run, those with the largest margins. Policies of later rounds would differ, so this does not say what a
correction does to them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from seralign.rewards.length_correction import balancing_slope, slope_within
from seralign.rewards.pairing import Contrast, contrasts, matched_contrasts
from seralign.rewards.usable import usable_responses
from seralign.runs import read_manifest
from seralign.tables import Column, markdown, number, percent, table


@dataclass(frozen=True)
class Correction:
    """What a value of ``scoring.length_correction`` makes of a round's answers.

    Args:
        name: The value.
        slope: What a reward loses for each token, in nats.
        pairs: Number of pairs.
        kept: Number of pairs that are kept.
        longer: In which share of them the longer answer is chosen; equal lengths count half. None without pairs.
        by: By how many tokens on average. None without pairs.
    """

    name: str
    slope: float
    pairs: int
    kept: int
    longer: float | None
    by: float | None


_COLUMNS = (
    Column[Correction]("correction", lambda one: one.name),
    Column[Correction]("nats a token", lambda one: number(one.slope, 4)),
    Column[Correction]("pairs", lambda one: str(one.pairs)),
    Column[Correction]("kept", lambda one: str(one.kept)),
    Column[Correction]("chosen longer", lambda one: percent(one.longer)),
    Column[Correction]("longer by, tokens", lambda one: number(one.by, 1)),
)


def corrections(folder: Path, band: float) -> list[Correction]:
    """The corrections that read the samples, and none.

    Args:
        folder: The folder of a round.
        band: ``scoring.length_band``.

    Returns:
        Nothing, if the round made no pairs.
    """
    candidates = pq.read_table(folder / "sample" / "candidates.parquet")
    rewards = pq.read_table(folder / "bootstrap" / "rewards.parquet")["reward"].to_numpy()
    selected = pq.read_table(folder / "bootstrap" / "selection.parquet")["kept"].to_numpy()
    if not len(selected):
        return []
    lengths = np.array([len(ids) for ids in candidates["ids"].to_pylist()])
    usable, _ = usable_responses(candidates)

    def made(name: str, slope: float, found: Sequence[Contrast]) -> Correction:
        margins = np.array([contrast.margin for contrast in found])
        longer = np.array([lengths[contrast.rows[0]] - lengths[contrast.rows[-1]] for contrast in found])
        kept = longer[np.argsort(-margins, kind="stable")[: round(selected.mean() * len(found))]]
        if not len(kept):
            return Correction(name, slope, len(found), 0, None, None)
        return Correction(name, slope, len(found), len(kept), float((np.sign(kept) + 1).mean() / 2), float(kept.mean()))

    within, balanced = slope_within(usable, rewards, lengths), balancing_slope(usable, rewards, lengths)
    return [
        made("none", 0.0, contrasts(usable, rewards)[0]),
        made("within_prompt", within, contrasts(usable, rewards - within * lengths)[0]),
        made("balanced", balanced, contrasts(usable, rewards - balanced * lengths)[0]),
        made("matched", 0.0, matched_contrasts(usable, rewards, lengths, band)[0]),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--round", type=int, default=2, help="a round that generated pairs")
    parser.add_argument("--band", type=float, default=0.2, help="scoring.length_band")
    given = parser.parse_args(arguments)
    if (used := read_manifest(given.run)["config"]["scoring"]["length_correction"]) != "none":
        parser.error(f"{given.run}: scoring.length_correction is {used!r}; give a run without a correction")
    found = corrections(given.run / f"round-{given.round}", given.band)
    if not found:
        parser.error(f"{given.run}: round {given.round} made no pairs of its answers")
    print(markdown(table("", _COLUMNS, found)))


if __name__ == "__main__":
    main()

"""The demo over several seeds: means of its figures, with intervals over the seeds.

python -m examples.smollm2.seeds runs/smollm2 runs/smollm2-seed1 runs/smollm2-seed2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from examples.smollm2 import cost, results
from examples.smollm2.demo import PERPLEXITIES, stored_size
from examples.smollm2.results import SEEN, UNSEEN, Judged
from seralign.errors import ConfigError, SeralignError
from seralign.intervals import Interval, mean_interval
from seralign.tables import Column, interval, markdown, table

Seed = dict[str, Judged]
"""The policies of one folder of the demo by name: the start, the last of each run, and those of earlier rounds."""


def read(folder: Path) -> Seed:
    """Read the policies of a folder of the demo.

    Raises:
        StoreError: it is no folder of the demo, or a run is missing or has not finished.
    """
    runs = {name: folder / name for name in ("sft", *stored_size(folder).methods)}
    last = results.collect(runs, cost.stored(folder / PERPLEXITIES))
    rounds = results.collect_rounds(runs)
    repeated = {policy.name.partition(",")[0]: policy.name for policy in rounds}.values()  # the last of each run
    return {policy.name: policy for policy in (*last, *rounds) if policy.name not in repeated}


def read_all(folders: Sequence[Path]) -> list[Seed]:
    """Read the policies of several folders.

    Raises:
        ConfigError: the folders are of different sizes.
        StoreError: as for ``read``.
    """
    for folder in folders[1:]:
        if stored_size(folder) != stored_size(folders[0]):
            raise ConfigError(f"{folder}: has another size than {folders[0]}; give folders of one size")
    return [read(folder) for folder in folders]


def means(seeds: Sequence[Seed]) -> str:
    """A table in Markdown with a row for each policy: means, with Student's intervals (95%) over the seeds.

    Raises:
        ConfigError: the seeds have other policies or other held-out prompts.
    """
    first = seeds[0]
    for seed in seeds[1:]:
        if list(seed) != list(first) or seed["start"].kinds != first["start"].kinds:
            raise ConfigError("the folders differ in their rounds or held-out prompts; give folders of one size")

    def over_seeds(figure: Callable[[Seed, str], float | None], digits: int = 0) -> Callable[[str], str]:
        def cell(name: str) -> str:
            values = [value for seed in seeds if (value := figure(seed, name)) is not None]
            return interval(mean_interval(values), digits)

        return cell

    columns = [
        Column[str]("policy", str),
        Column[str]("seen kinds", over_seeds(lambda seed, name: _percent(seed[name].rate(SEEN))), "% that pass"),
        Column[str]("held-out kinds", over_seeds(lambda seed, name: _percent(seed[name].rate(UNSEEN)))),
        Column[str]("gain over sft, seen", over_seeds(lambda seed, name: _gain(seed, name, SEEN))),
        Column[str]("held-out", over_seeds(lambda seed, name: _gain(seed, name, UNSEEN))),
        Column[str]("tokens an answer", over_seeds(lambda seed, name: seed[name].length)),
        Column[str]("unfinished", over_seeds(lambda seed, name: 100 * seed[name].unfinished), "%"),
        Column[str]("KL", over_seeds(lambda seed, name: _mean(seed[name].kl), 1), "nats"),
        Column[str]("perplexity", over_seeds(lambda seed, name: _mean(seed[name].perplexity), 1)),
    ]
    return markdown(table("", columns, first))


def _mean(value: Interval | None) -> float | None:
    return None if value is None else value.mean


def _percent(value: Interval | None) -> float | None:
    return None if value is None else 100 * value.mean


def _gain(seed: Seed, name: str, kinds: Sequence[str]) -> float | None:
    return None if name in ("start", "sft") else _percent(seed[name].gain(seed["sft"], kinds))


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Means of the demo over seeds.")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of make demo-llm, each of another seed")
    try:
        print(means(read_all(parser.parse_args(arguments).folders)))
    except SeralignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

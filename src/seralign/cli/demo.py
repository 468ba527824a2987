"""``seralign demo``: all rounds on a small built-in task; it needs no data and downloads nothing."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from seralign.cli.train import run_training
from seralign.config import RunConfig, brief_parser, load_config, parse_config, to_dict
from seralign.config.recipes import recipe_keys, recipe_name

BESIDE = "sera_stable"


def main(arguments: list[str]) -> None:
    """``[--out DIR] [--key value ...]``"""
    parser = brief_parser(
        prog="seralign demo",
        usage="seralign demo [--out DIR] [--key value ...]",
        description="Run a small built-in task from start to end: supervised fine-tuning, three rounds, and DPO with "
        f"as many steps for comparison; then the same rounds with recipe {BESIDE}, in a second folder (OUT-{BESIDE}), "
        "and a page that compares the two runs. It takes a few minutes on a CPU, needs no data and downloads nothing. "
        "Give the same command again to resume the runs, or to show the finished runs. --print_config prints the "
        "configuration of the first run, as a start for your own.",
        epilog="Every key of a run is also a flag, such as --rounds 1 or --objective.name ipo. seralign train --help "
        "and docs/configuration.md list them.",
    )
    parser.add_argument(
        "--out", metavar="DIR", default=argparse.SUPPRESS, help="the folder of the run (default: runs/quickstart)"
    )
    with as_file(files("seralign") / "quickstart.yaml") as file:
        config, _ = parse_config(parser, [str(file), *arguments])
    run_training(config)
    second = beside(config)
    if second is not None:
        _compare(config, second)


def beside(config: RunConfig) -> RunConfig | None:
    """The same rounds with the other recipe, from the supervised policy of the first run; None where they are equal.

    With an adapter, supervised training is repeated, because it does not end in a model of its own.
    """
    if config.rounds == 1 or not config.objective.compares or recipe_name(to_dict(config)) == BESIDE:
        return None
    values = to_dict(config) | {"out": f"{config.out}-{BESIDE}"}
    for section, keys in recipe_keys(BESIDE).items():
        values[section] = values[section] and values[section] | keys
    second = load_config(None, values)
    second = replace(second, evaluation=replace(second.evaluation, baseline=False))
    if config.sft is None or config.policy.lora is not None or config.policy.adapter is not None:
        return second
    model = str(Path(config.out) / "sft" / "policy")
    return replace(second, sft=None, policy=replace(second.policy, model=model, revision=None))


def _compare(config: RunConfig, second: RunConfig) -> None:
    """Train the second run, print its tables, and write and print what differs."""
    from seralign import distributed
    from seralign.cli.console import stdout, tell
    from seralign.report.compare import comparison
    from seralign.report.contents import run_contents
    from seralign.report.page import write_report
    from seralign.runs import read_run
    from seralign.tables import terminal

    run_training(second)
    if distributed.is_main():
        contents = [run_contents(read_run(run.out)) for run in (config, second)]
        path = Path(f"{config.out}-recipes.html").absolute()
        write_report(contents, path)
        stdout().print(terminal(comparison(contents)))
        tell(f"both recipes: {path}")

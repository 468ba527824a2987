"""``seralign demo``: all rounds on a small built-in task; it needs no data and downloads nothing."""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files

from seralign.cli.train import run_training
from seralign.config import brief_parser, parse_config


def main(arguments: list[str]) -> None:
    """``[--out DIR] [--key value ...]``"""
    parser = brief_parser(
        prog="seralign demo",
        usage="seralign demo [--out DIR] [--key value ...]",
        description="Run a small built-in task from start to end: supervised fine-tuning, three rounds, and DPO with "
        "as many steps for comparison. It takes a few minutes on a CPU, needs no data and downloads nothing. Give the "
        "same command again to resume the run, or to show the finished run. --print_config prints its configuration, "
        "as a start for your own.",
        epilog="Every key of a run is also a flag, such as --rounds 1 or --objective.name ipo. seralign train --help "
        "and docs/configuration.md list them.",
    )
    parser.add_argument(
        "--out", metavar="DIR", default=argparse.SUPPRESS, help="the folder of the run (default: runs/quickstart)"
    )
    with as_file(files("seralign") / "quickstart.yaml") as file:
        config, _ = parse_config(parser, [str(file), *arguments])
    run_training(config)

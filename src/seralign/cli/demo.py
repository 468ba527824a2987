"""``seralign demo``: the whole loop on a small built-in task; nothing is read and nothing is downloaded."""

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
        description="Run the whole loop on a small built-in task: supervised fine-tuning, three rounds, and DPO with "
        "as many steps to compare with. It takes a few minutes on a CPU and reads and downloads nothing. The same "
        "command again continues the run, or shows the finished one. --print_config prints its configuration, from "
        "which one of your own may begin.",
        epilog="Every key of a run is a flag, too, as in --rounds 1 or --objective.name ipo: seralign train --help "
        "lists them, and docs/configuration.md has them as a table.",
    )
    parser.add_argument(
        "--out", metavar="DIR", default=argparse.SUPPRESS, help="the run's folder (default: runs/quickstart)"
    )
    with as_file(files("seralign") / "quickstart.yaml") as file:
        config, _ = parse_config(parser, [str(file), *arguments])
    run_training(config)

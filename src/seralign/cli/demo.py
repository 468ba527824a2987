"""``seralign demo``: the whole loop on a small built-in task; nothing is read and nothing is downloaded."""

from __future__ import annotations

from importlib.resources import as_file, files

from seralign.cli.train import run_training
from seralign.config import config_parser, parse_config


def main(arguments: list[str]) -> None:
    """``[--out DIR] [--key value ...]``"""
    parser = config_parser(
        prog="seralign demo",
        usage="seralign demo [--out DIR] [--key value ...]",
        description="Run the whole loop on a small built-in task: supervised fine-tuning, three rounds, and DPO with "
        "as many steps to compare with. It takes a few minutes on a CPU and reads and downloads nothing. The run is in "
        "runs/quickstart, or in --out; the same command again continues it, or shows the finished run. "
        "--print_config prints its configuration, from which one of your own may begin.",
    )
    with as_file(files("seralign") / "quickstart.yaml") as file:
        config, _ = parse_config(parser, [str(file), *arguments])
    run_training(config)

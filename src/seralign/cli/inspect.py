"""``seralign inspect``: what the data look like as tokens, before any training."""

from __future__ import annotations

from seralign.config import config_parser, parse_config


def main(arguments: list[str]) -> None:
    """``[RUN.yaml] [--examples N] [--key value ...]``"""
    parser = config_parser(
        prog="seralign inspect",
        usage="seralign inspect [RUN.yaml] [--examples N] [--key value ...]",
        description="Read and tokenize the data of a run, and show what comes out. Writes nothing to the run.",
    )
    parser.add_argument("--examples", type=int, default=2, help="pairs to show in full")
    examples = 2
    if "--examples" in arguments:
        place = arguments.index("--examples")
        examples = int(arguments[place + 1])
        arguments = arguments[:place] + arguments[place + 2 :]
    print_data(parse_config(parser, arguments), examples)

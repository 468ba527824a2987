"""``seralign train``: start a run, or resume it."""

from __future__ import annotations

from seralign.config import RunConfig, config_parser, parse_config


def main(arguments: list[str]) -> None:
    """``[RUN.yaml] [--key value ...]``"""
    parser = config_parser(
        prog="seralign train",
        usage="seralign train [RUN.yaml] [--key value ...]",
        description="Start a run, or resume it: give the same command again to resume a run that was killed.",
    )
    config, _ = parse_config(parser, arguments)
    run_training(config)


def run_training(config: RunConfig) -> None:
    """Start or resume a run, print its tables, and print the path of its report."""
    from seralign import distributed
    from seralign.cli.console import tell
    from seralign.cli.show import print_run
    from seralign.pipeline import train
    from seralign.runs.layout import REPORT

    result = train(config)
    if distributed.is_main():
        print_run(result.run)
        report = result.run.root.absolute() / REPORT
        if report.is_file():
            tell(f"report: {report}")

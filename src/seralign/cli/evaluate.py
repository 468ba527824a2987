"""``seralign evaluate``: compare policies by a judge."""

from __future__ import annotations

from seralign.config.flags import Parser


def main(arguments: list[str]) -> None:
    """``CONFIG.yaml [--key value ...]``"""
    parser = Parser(
        "seralign evaluate",
        usage="seralign evaluate CONFIG.yaml [--key value ...]",
        description="Compare the answers of policies to the same prompts by a judge. Policies are models, policies of "
        "a run, servers, or files of outputs. Prints win rates with intervals, ties, position bias and agreement, and "
        "writes them with all answers and verdicts to a folder. Give the same command again to resume an evaluation "
        "that was killed: nothing is asked twice. docs/evaluation.md describes the keys, the figures and the files.",
        epilog="The keys of the file are flags, such as --baseline base or --prompts.limit 100.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration (docs/evaluation.md)")
    parser.add_argument(
        "--replay", action="store_true", help="use stored verdicts only: the judge is not asked, and needs no server"
    )
    given, rest = parser.parse_known_args(arguments)

    from seralign.config.evaluate import load_evaluate_config
    from seralign.config.sections import parse_overrides

    config = load_evaluate_config(given.config, parse_overrides(rest))

    from seralign.cli.console import stdout, tell
    from seralign.pipeline.evaluate.run import PAGE, evaluate
    from seralign.report.evaluation_tables import headline, notes, tables
    from seralign.tables import terminal

    result = evaluate(config, replay=given.replay)
    console = stdout()
    tell(headline(result.figures))
    for names, each in tables(result.figures):
        console.print(terminal(each, names=names))
    for note in notes(result.figures):
        tell(note)
    tell(f"Answers and verdicts side by side: {result.folder / PAGE}")

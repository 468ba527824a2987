"""``seralign label``: make preferences of rows with candidate responses and a signal."""

from __future__ import annotations

from seralign.config.flags import Parser


def main(arguments: list[str]) -> None:
    """``CONFIG.yaml [--key value ...]``"""
    parser = Parser(
        "seralign label",
        usage="seralign label CONFIG.yaml [--key value ...]",
        description="Make a data set of preferences, which train reads, of rows with candidate responses and signals: "
        "comparisons, votes, ratings, rankings, pass/fail checks, errors to a target, scorers, judges, or several of "
        "them combined. It writes pairs, rankings or scores (write). Give the same command again to resume a labelling "
        "that was killed. docs/labels.md lists the signals and the keys.",
        epilog="Keys of data, combine, pairs and limits, and out, write and keep_columns, are flags, such as "
        "--pairs.rule best_worst.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration (docs/labels.md)")
    given, rest = parser.parse_known_args(arguments)

    from seralign.cli.console import stdout, tell
    from seralign.config.sections import parse_overrides
    from seralign.preferences.config import load_label_config
    from seralign.preferences.figures import tables
    from seralign.preferences.kept import PROVENANCE
    from seralign.preferences.labelling import label
    from seralign.tables import terminal

    config = load_label_config(given.config, parse_overrides(rest))
    figures = label(config)
    console = stdout()
    for each in tables(figures):
        console.print(terminal(each, texts=("why",)))
    keep = ", ".join((*PROVENANCE, *config.keep_columns))
    tell(f"{figures.out}: {figures.written:,} {figures.write}. To train on them:")
    tell(f"  data: {{pairs: {{path: {figures.out}}}, keep_columns: [{keep}]}}")
    if figures.write == "rankings":
        tell("  objective: {name: plackett_luce}")
        tell("  bootstrap: {preferences: ranking}")
    elif figures.write == "scores":
        tell("  objective: {name: reward_scores}                   # a reward model, which answers no prompts")
        tell("  rounds: 1")
        tell("  evaluation: {prompts: 0, token_pairs: 0}")
        tell("or for a policy: data.convert.scores with an objective of pairs (docs/data.md)")

"""``seralign query``: choose pairs to have labelled, and make preferences of the labels."""

from __future__ import annotations

from seralign.config.flags import Parser


def main(arguments: list[str]) -> None:
    """``CONFIG.yaml [--key value ...]``"""
    parser = Parser(
        "seralign query",
        usage="seralign query CONFIG.yaml [--key value ...]",
        description="Choose pairs of candidate responses to have labelled, within a budget (active learning), and "
        "write them to a queue. When a person or a program has labelled them, give the same command again: it checks "
        "the labels and writes preferences, which train reads. docs/labels.md describes the queue and the keys.",
        epilog="The keys of the file are flags, such as --budget 200, --strategy coreset or --allow_partial true. Exit "
        "code 3: pairs have no label yet.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration (docs/labels.md)")
    given, rest = parser.parse_known_args(arguments)

    from seralign.cli.console import tell
    from seralign.config.sections import parse_overrides
    from seralign.errors import AwaitingLabels
    from seralign.preferences.kept import PROVENANCE
    from seralign.preferences.query_config import load_query_config
    from seralign.preferences.querying import query
    from seralign.preferences.queue import LABELS

    figures = query(load_query_config(given.config, parse_overrides(rest)))
    for reason, count in figures.left_out.items():
        tell(f"  left out: {reason} {count:,}")
    if figures.out is None:
        tell(f"{figures.queue}: {figures.asked:,} of {figures.pool:,} pairs to label")
        raise AwaitingLabels(f"Set each label to {LABELS}, and give the same command again")
    tell(f"{figures.out}: {figures.pairs:,} pairs of {figures.asked:,} in the queue. To train on them:")
    tell(f"  data: {{pairs: {{path: {figures.out}}}, keep_columns: [{', '.join(PROVENANCE)}]}}")

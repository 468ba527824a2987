"""``seralign accuracy``: how often a judge, a reward model or an implicit reward ranks labelled pairs right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seralign.config.flags import Parser
from seralign.errors import ConfigError

_OPTIONS = "judge_options."


def main(arguments: list[str]) -> None:
    """``PAIRS --judge NAME [--judge_options.KEY VALUE ...] [--by COLUMN]``"""
    parser = Parser(
        "seralign accuracy",
        usage="seralign accuracy PAIRS --judge NAME [--judge_options.KEY VALUE ...] [--by COLUMN]",
        description="Print the share of labelled pairs whose chosen response is preferred, with its 95% interval, also "
        "for each category of a column, as RewardBench does.",
        epilog="A reward model: --judge reward_model --judge_options.model M. The implicit reward of a policy: --judge "
        "implicit --judge_options.policy RUN. A function: --judge scorer --scorer module:function.",
    )
    parser.add_argument("pairs", metavar="PAIRS", help="a file of pairs or the name of a dataset, as in data.pairs")
    parser.add_argument("--judge", required=True, help="as in evaluation.judge: reward_model, implicit, server, ...")
    parser.add_argument("--scorer", help="module:function, for --judge scorer")
    parser.add_argument("--by", metavar="COLUMN", help="a column with categories")
    parser.add_argument("--limit", type=int, help="read so many rows")
    parser.add_argument("--verdicts", type=Path, help="a file that keeps the verdicts; none in it is asked again")
    parser.add_argument("--json", action="store_true", help="print the figures by name")
    given, rest = parser.parse_known_args(arguments)

    from seralign.config import SourceConfig
    from seralign.config.sections import parse_overrides

    options: dict[str, Any] = {}
    for key, value in parse_overrides(rest).items():
        if not key.startswith(_OPTIONS):
            raise ConfigError(f"--{key}: unknown option; seralign accuracy --help lists the options")
        options[key.removeprefix(_OPTIONS)] = value

    from seralign.cli.console import stdout, tell
    from seralign.pipeline.accuracy import pair_accuracy
    from seralign.report.evaluation_tables import points
    from seralign.runs.typed import to_json
    from seralign.tables import Table, counted, percent, share, terminal

    source = SourceConfig(path=given.pairs, limit=given.limit)
    found = pair_accuracy(source, given.judge, options, scorer=given.scorer, by=given.by, verdicts=given.verdicts)
    if given.json:
        print(json.dumps(to_json(found), indent=1, allow_nan=False))
        return
    rows = [(name, f"{rate.n:,}", share(rate)) for name, rate in found.by.items()]
    if found.mean is not None:
        rows.append(("mean of the categories", "", percent(found.mean)))
    rows.append(("all pairs", f"{found.pairs - found.unread:,}", share(found.accuracy)))
    stdout().print(terminal(Table("Accuracy, ties half", (given.by or "", "pairs", "accuracy"), tuple(rows))))
    if found.position_bias is not None:
        tell(f"position bias {points(found.position_bias)}: percentage points that the first place gains over one half")
    if found.self_agreement is not None:
        tell(f"both orders name the same winner of {share(found.self_agreement)} of the pairs")
    if found.unread:
        tell(f"{found.unread:,} of {found.pairs:,} pairs have no verdict")
    if found.dropped:
        tell(f"rows that are no pair: {counted(found.dropped)}")

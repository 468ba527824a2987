"""``seralign best-of``: keep the best of n responses to each prompt."""

from __future__ import annotations

from pathlib import Path

from seralign.cli.policies import PLACES
from seralign.config.flags import Parser
from seralign.errors import StoreError


def main(arguments: list[str]) -> None:
    """``(CONFIG.yaml | RUN --prompts FILE --out FILE.jsonl) [--key value ...]``"""
    parser = Parser(
        "seralign best-of",
        usage="seralign best-of (CONFIG.yaml | RUN --prompts FILE --out FILE.jsonl) [--key value ...]",
        description="Sample n responses to each prompt, and keep the best by a scorer, a judge or an implicit reward: "
        "a baseline that trains nothing. The file has the best response of each prompt, which seralign evaluate reads "
        "as a policy's outputs, and all candidates with their scores. The bound of the KL divergence and the mean "
        "score by n are printed. Give the same command again to resume one that was killed.",
        epilog="The keys of the file are flags: --n 16, --scorer module:function, --judge NAME (--rule knockout), "
        "--reward RUN, --temperature 0.7, --prompts.limit 100 and so on (docs/commands.md).",
    )
    parser.add_argument("place", metavar="CONFIG.yaml | RUN", help=f"the configuration; or {PLACES}")
    given, rest = parser.parse_known_args(arguments)

    from seralign.config.best_of import load_best_of_config
    from seralign.config.paths import expanded
    from seralign.config.sections import parse_overrides

    config = load_best_of_config(given.place, parse_overrides(rest))
    if Path(expanded(config.out)).exists():
        raise StoreError(f"{config.out} already exists; delete it, or give another name (out)")

    from seralign.cli.console import stdout, tell
    from seralign.pipeline.best_of import BestOfFigures, best_of
    from seralign.tables import Table, number, percent, terminal

    figures: BestOfFigures = best_of(config)
    if figures.gains:
        rows = []
        for gain in figures.gains:
            low, high = gain.score.low, gain.score.high
            interval = "–" if low is None or high is None else f"{number(low, 3)} to {number(high, 3)}"
            rows.append((str(gain.n), number(gain.kl_bound, 3), number(gain.score.mean, 3), interval))
        caption = f"means over {figures.prompts:,} prompts"
        table = Table(caption, ("n", "KL bound, nats", "mean score", "95% interval"), tuple(rows))
        stdout().print(terminal(table))
    tell(f"{config.out}: the best of {config.n} responses to {figures.prompts:,} prompts ({figures.what})")
    if figures.repeated:
        tell(f"  {percent(figures.repeated)} of the responses repeat an earlier one, so the KL divergence is below log "
             "n - (n - 1) / n")  # fmt: skip
    if figures.unfinished:
        tell(f"  {percent(figures.unfinished)} of the best responses were cut at max_new_tokens")
    if figures.unanswered:
        tell(f"  {figures.unanswered:,} prompts were not answered; left_out in their lines says why")
    tell(f"To compare them with other policies: policies: {{best: {{outputs: {config.out}}}}} (seralign evaluate)")

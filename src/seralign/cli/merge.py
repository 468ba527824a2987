"""``seralign merge``: merge an adapter into its base model."""

from __future__ import annotations

from pathlib import Path

from seralign.cli.console import tell
from seralign.cli.policies import add_which, which_policy
from seralign.config.flags import Parser


def main(arguments: list[str]) -> None:
    """``RUN | ADAPTER [--round N | --start] --out FOLDER``"""
    parser = Parser(
        "seralign merge",
        description="Merge an adapter into its base model, and write a whole model with tokenizer, chat template and "
        "model card, in the data type of the base model. The log-probabilities of some tokens are compared with those "
        "of base model and adapter. A whole model is copied.",
    )
    parser.add_argument("policy", metavar="RUN", help="the folder of a run or of an adapter")
    add_which(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    given = parser.parse_args(arguments)

    from seralign.pipeline.publishing import merge_policy
    from seralign.policy.saved import saved_policy

    policy = saved_policy(given.policy, which_policy(given))
    tell_merge(merge_policy(policy, given.out), policy.name)
    tell(f"model: {given.out}")


def tell_merge(merged: object, name: str) -> None:
    """Print the result of a merge, in one or two lines."""
    from seralign.policy.merging import Merged

    if not isinstance(merged, Merged):
        tell(f"{name} is a whole model: there is nothing to merge, so it is copied")
        return
    unit = " nats" if merged.what == "log-probabilities" else ""
    tell(
        f"{name}: merged in {merged.dtype}; {merged.what} of {merged.tokens} tokens differ from those of base and "
        f"adapter by {merged.difference:.2g}{unit} on average (the adapter changes them by {merged.change:.2g})"
    )
    if merged.loses:
        tell(
            f"warning: rounding to {merged.dtype} removes half or more of the adapter's effect; use the adapter itself"
        )

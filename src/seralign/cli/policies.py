"""Arguments that select a policy and how it is sampled, shared by several commands."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from seralign.checks import fraction, not_negative, positive, require
from seralign.errors import ConfigError

if TYPE_CHECKING:
    from seralign.config import SamplingConfig
    from seralign.pipeline.aligned import Aligned
    from seralign.policy.saved import SavedPolicy, Which

PLACES = "the folder of a run, a model or an adapter, or the name of a model on the hub"


def add_which(parser: argparse.ArgumentParser) -> None:
    """Add ``--round N`` and ``--start``, which select another policy of a run than its result."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--round", type=int, metavar="N", help="use the policy of a round, in place of the result of the run"
    )
    which.add_argument("--start", action="store_true", help="use the policy that the rounds started from")


def which_policy(given: argparse.Namespace) -> Which:
    """The policy of a run that the arguments name."""
    return "start" if given.start else "result" if given.round is None else given.round


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add how answers are sampled, and whether prompts are plain text."""
    parser.add_argument("--temperature", type=float, help="0: greedy; default: that of the run's evaluation, or 1")
    parser.add_argument("--top_p", type=float, help="nucleus sampling; default: that of the run's evaluation, or 1")
    parser.add_argument("--max_new_tokens", type=int, help="default: that of the run's evaluation, or 256")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers")
    parser.add_argument("--system", metavar="TEXT", help="a system message, in place of the run's data.system")
    parser.add_argument(
        "--principle", metavar="TEXT", help="align the answers to this principle as they are sampled (Linear Alignment)"
    )
    parser.add_argument("--step", type=float, help="with --principle: the size of the step; default: 2")
    parser.add_argument(
        "--plain", action="store_true", help="continue prompts as plain text, without the chat template"
    )


def aligned(given: argparse.Namespace) -> Aligned | None:
    """Linear Alignment, if the arguments ask for it."""
    from seralign.config.linear_alignment import LinearAlignmentConfig
    from seralign.pipeline.aligned import Aligned

    if given.principle is None:
        if given.step is not None:
            raise ConfigError("--step is the step of Linear Alignment; give --principle, too")
        return None
    require(bool(given.principle.strip()), "--principle", "a text", given.principle)
    if given.step is None:
        return Aligned(LinearAlignmentConfig(given.principle), "--principle")
    not_negative(given.step, "--step")
    return Aligned(LinearAlignmentConfig(given.principle, given.step), "--principle")


def sampling(given: argparse.Namespace, policy: SavedPolicy) -> SamplingConfig:
    """How to sample, by the arguments; the defaults are those of the run's evaluation."""
    from seralign.config import EvaluationConfig

    config = policy.config
    usual = (EvaluationConfig() if config is None else config.evaluation).sampling
    usual = replace(usual, max_new_tokens=usual.limit if config is None else config.answer_tokens)
    flags = {name: getattr(given, name) for name in ("temperature", "top_p", "max_new_tokens")}
    for name, value in flags.items():
        if value is not None:
            {"temperature": not_negative, "top_p": fraction}.get(name, positive)(value, f"--{name}")
    require(given.seed >= 0, "--seed", "at least 0", given.seed)
    return replace(usual, **{name: value for name, value in flags.items() if value is not None})

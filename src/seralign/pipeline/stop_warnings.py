"""Refuses warnings in ``stop.warnings`` that cannot appear in a run, because their figure will not be measured."""

from __future__ import annotations

from seralign.config import RunConfig
from seralign.config.stop import StopWarning
from seralign.errors import ConfigError
from seralign.evaluation.judges import Judge
from seralign.pipeline.data import Tables
from seralign.pipeline.heldout import have_margins

_OF_ANSWERS: tuple[StopWarning, ...] = ("length", "diversity", "repetition", "unfinished", "kl")
_OF_HELDOUT_PAIRS: tuple[StopWarning, ...] = ("fall", "chosen_logp")
_OF_GENERATED_PAIRS: tuple[StopWarning, ...] = ("generated_length", "generated_margins", "alike", "few")


def check_stop_warnings(config: RunConfig, judge: Judge | None, tables: Tables) -> None:
    """Check that each warning of ``stop.warnings`` can appear.

    Raises:
        ConfigError: the figure of a warning will not be measured; names the warning and what it needs.
    """
    if config.rounds == 1:
        return  # nothing can stop earlier
    for place, kind in enumerate(config.stop.warnings):
        needed = _needed(kind, config, judge, tables)
        if needed is not None:
            raise ConfigError(f"stop.warnings[{place}]: {kind} needs {needed}")


def _needed(kind: StopWarning, config: RunConfig, judge: Judge | None, tables: Tables) -> str | None:
    """What is missing for a warning; None if nothing is."""
    answers = config.evaluation.prompts > 0 and len(tables.heldout_prompts) > 0
    pairs = have_margins(tables.heldout, config.objective)
    sampling = config.evaluation.sampling
    if kind in _OF_ANSWERS and not answers:
        return "answers to held-out prompts; set evaluation.prompts above 0, and hold prompts out"
    if kind == "kl" and (sampling.temperature != 1.0 or sampling.top_p != 1.0):
        return "answers at temperature 1 and top-p 1; set evaluation.temperature: 1 and evaluation.top_p: 1"
    if kind in _OF_HELDOUT_PAIRS and not pairs:
        return "held-out pairs; set data.heldout or data.heldout_fraction"
    if kind == "win_rate" and not (answers and judge is not None):
        return "answers to held-out prompts and a judge; set evaluation.scorer or evaluation.judge"
    if kind == "harm" and not pairs and not (answers and judge is not None):
        return "held-out pairs (data.heldout), or a judge of answers (evaluation.scorer, evaluation.judge)"
    if kind in _OF_GENERATED_PAIRS and config.bootstrap is None:
        return "generated pairs; set the section bootstrap"
    return None

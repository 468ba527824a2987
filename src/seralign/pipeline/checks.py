"""Checks of a run before any model is used: unsupported settings, and trainings that would change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np

from seralign.config import RunConfig
from seralign.config.unread import check_read
from seralign.data.table_columns import example_ids, forms, response_lengths
from seralign.errors import ConfigError
from seralign.evaluation.judges import Judge
from seralign.objectives import SFT
from seralign.objectives.checked import try_objective
from seralign.pipeline.data import Tables
from seralign.pipeline.heldout import have_margins
from seralign.pipeline.rows import demonstrations, first_pairs
from seralign.pipeline.stop_warnings import check_stop_warnings
from seralign.rewards.ordering import ordering_of
from seralign.rlhf.arguments import plan_batch
from seralign.rlhf.checks import check_rlhf
from seralign.training.arguments import check_rates, check_settings
from seralign.training.forms import check_forms, check_labels, check_responses
from seralign.training.plan import check_step, count_steps
from seralign.training.shards import check_shard


def check_sections(config: RunConfig) -> None:
    """Check the settings of all trainings before the run begins.

    Raises:
        ConfigError: as ``check_read``, ``check_settings``, ``check_rlhf`` and ``try_objective``.
    """
    check_read(config)
    try_objective(config.objective)
    check_settings(config.training, "training")
    if config.rlhf is not None:
        check_rlhf(config.rlhf, config.training)
    if config.sft is not None:
        check_settings(config.sft, "sft")


def check_processes(config: RunConfig) -> None:
    """Check that there are enough processes for the settings of all trainings.

    Raises:
        ConfigError: as ``check_shard``; or the trainings of the run differ in it.
    """
    if config.rlhf is not None and config.training.shard != "none":
        raise ConfigError(f"training.shard: {config.training.shard}, but rlhf runs in one process; set none")
    check_shard(config.training, "training")
    if config.training.shard in ("zero2", "zero3") and config.reference.sync_steps is not None:
        raise ConfigError(
            f"reference.sync_steps: it cannot be combined with training.shard: {config.training.shard}; set fsdp, or "
            "remove it"
        )
    if config.sft is not None and config.sft.shard != config.training.shard:
        raise ConfigError(
            f"sft.shard: {config.sft.shard}, but training.shard is {config.training.shard}; set both to the same"
        )


def _check_trust(config: RunConfig, tables: Tables) -> None:
    if config.scoring.min_accuracy is None:
        return
    if not have_margins(tables.heldout, config.objective):
        raise ConfigError(
            "scoring.min_accuracy: there are no held-out pairs to rank; set data.heldout or data.heldout_fraction"
        )


def check_tables(config: RunConfig, judge: Judge | None, tables: Tables) -> None:
    """Check the data against the configuration.

    Raises:
        ConfigError: a figure of the stopping rule will not be measured, the objective does not take the data, there are
            more folds than prompts, or a training would change nothing.
    """
    _check_stop(config, judge, tables)
    _check_labels_made(config, judge)
    _check_trust(config, tables)
    check_stop_warnings(config, judge, tables)
    _check_folds(config, tables)
    if config.rlhf is not None:
        _check_rewarded(config, tables)
        return
    if config.generates_all:
        _check_generated(config, tables)
        return
    first = first_pairs(config.objective, tables)
    source = "data.pairs" if first is tables.pairs else "data.demonstrations"
    heldout = "data.pairs" if config.data.heldout is None else "data.heldout"
    for table, place in ((first, source), (tables.heldout, heldout)):
        check_forms(forms(table), config.objective, place)
        check_labels(table, config.objective, place)
        check_responses(table, config.objective, place)
    for table, key in ((first, source), (tables.heldout, _heldout_key(config))):
        _check_prompts(config, table, key)
    _check_reviewed(config, tables.pairs)
    _check_supervised(config, tables)
    check_step(config.training, len(first), "training")
    check_rates(config.training, count_steps(len(first), config.training, "training"), "training")


def _check_rewarded(config: RunConfig, tables: Tables) -> None:
    """Check prompts and demonstrations of a run that maximises a reward."""
    assert config.rlhf is not None
    _check_supervised(config, tables)
    batch = plan_batch(config.rlhf, config.training, len(tables.prompts.unique("text")))
    check_rates(config.training, batch.steps, "training")


def _check_generated(config: RunConfig, tables: Tables) -> None:
    """Check a run that makes all of its pairs: held-out pairs, if there are any, and what the pairs are made of."""
    heldout = "data.pairs" if config.data.heldout is None else "data.heldout"
    check_forms(forms(tables.heldout), config.objective, heldout)
    check_labels(tables.heldout, config.objective, heldout)
    check_responses(tables.heldout, config.objective, heldout)
    _check_supervised(config, tables)
    if config.demonstrated:
        _check_demonstrations(forms(demonstrations(tables)), "bootstrap.method")
        if not (response_lengths(demonstrations(tables), 0) > 1).any():
            raise ConfigError("data.demonstrations: all responses are empty, so there is nothing to imitate")


def _check_supervised(config: RunConfig, tables: Tables) -> None:
    if config.sft is not None:
        shown = demonstrations(tables)
        if not len(shown):
            raise ConfigError("sft: there is nothing to imitate; give data.demonstrations or data.pairs")
        _check_demonstrations(forms(shown), "sft")
        check_step(config.sft, len(shown), "sft")
        check_rates(config.sft, count_steps(len(shown), config.sft, "sft"), "sft")


def _check_demonstrations(found: Sequence[str], key: str) -> None:
    others = [form for form in found if form not in SFT.forms]
    if others:
        raise ConfigError(
            f"{key}: data.pairs has the form {others[0]}, which has no best response to imitate; give "
            "data.demonstrations"
        )


def _heldout_key(config: RunConfig) -> str:
    return "data.heldout_fraction" if config.data.heldout is None else "data.heldout"


def _check_prompts(config: RunConfig, table: datasets.Dataset, key: str) -> None:
    """Refuse examples that have no responses to other prompts to compare with."""
    if "mismatched" not in config.objective.needs or not len(table) or len(table.unique("prompt_id")) > 1:
        return
    is_heldout = key == _heldout_key(config)
    which, instead = ("held-out ", "hold out two prompts or more, or none") if is_heldout else (
        "", "give data with two prompts or more, or another objective")  # fmt: skip
    raise ConfigError(
        f"{key}: {config.objective.name} compares with responses to other prompts, but all {which}examples have the "
        f"same prompt; {instead}"
    )


def _check_reviewed(config: RunConfig, pairs: datasets.Dataset) -> None:
    """Refuse to review examples that have no margin, and to relabel what has no label."""
    found = forms(pairs)
    if config.rounds > 1:
        others = [form for form in found if form not in ("pair", "ranking", "scores")]
        if others:
            raise ConfigError(
                f"rounds: later rounds select examples by their margins, but data.pairs has the form {others[0]}, "
                "which orders no two responses; set rounds: 1, or make pairs of them with data.convert"
            )
        unordered = np.flatnonzero(ordering_of(pairs).pairs == 0)
        if len(unordered):
            raise ConfigError(
                f"rounds: later rounds select examples by their margins, but {len(unordered)} of {len(pairs)} examples "
                f"of data.pairs have no two responses of different worth, the first is "
                f"{example_ids(pairs)[int(unordered[0])]}; remove them, or set rounds: 1"
            )
    others = [form for form in found if form != "pair"]
    if config.crossfit is not None and others:
        raise ConfigError(
            f"crossfit: it gives each pair a new label p, but data.pairs has the form {others[0]}, which has none; "
            "leave crossfit out, or make pairs of them with data.convert"
        )


def _check_stop(config: RunConfig, judge: Judge | None, tables: Tables) -> None:
    metric = config.stop.metric
    if config.rounds == 1 or metric == "never":
        return
    if metric == "win_rate" and judge is None:
        raise ConfigError(
            "stop.metric: win_rate needs evaluation.scorer (module:function) to score responses, or evaluation.judge"
        )
    # A win rate is that of answers, and needs no pairs.
    table, what, key = tables.heldout, "pairs", "data.heldout"
    if metric == "win_rate":
        table, what, key = tables.heldout_prompts, "prompts", "data.heldout_prompts"
    if not len(table):
        raise ConfigError(
            f"stop.metric: {metric} needs held-out {what}; set {key} or data.heldout_fraction, or stop.metric: never"
        )


def _check_labels_made(config: RunConfig, judge: Judge | None) -> None:
    if config.bootstrap is not None and config.bootstraps and config.bootstrap.labels == "judge" and judge is None:
        raise ConfigError(
            "bootstrap.labels: judge needs evaluation.scorer (module:function) to score responses, or evaluation.judge"
        )


def _check_folds(config: RunConfig, tables: Tables) -> None:
    if config.crossfit is None:
        return
    folds, prompts = config.crossfit.folds, len(tables.pairs.unique("prompt_id"))
    if folds > prompts:
        raise ConfigError(
            f"crossfit.folds: {folds} folds of {prompts} different prompts; all pairs of a prompt are in one fold, so "
            "give at most as many folds as prompts, or more data"
        )

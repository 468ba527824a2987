"""Describes in words how a run was set up and how it ended: data, policy, reference, objective, training."""

from __future__ import annotations

from typing import Any

from seralign.config.objective import described
from seralign.config.recipes import recipe_name
from seralign.config.rlhf import BETAS
from seralign.report import made_pairs
from seralign.report.contents import RunContents
from seralign.report.notes import last_stage
from seralign.report.record import RunFigures
from seralign.report.supervised import data_lines
from seralign.runs.data_figures import DataFigures
from seralign.runs.figures import BaseFigures, CrossfitFigures
from seralign.tables import counted, number, percent


def facts(run: RunContents) -> list[tuple[str, list[str]]]:
    """The sections of the description by name, each with one line or more."""
    figures, config = run.figures, run.config
    found = [("Data", _data_lines(figures))]
    if figures.crossfit is not None:
        found.append(("Before round 1", crossfit_lines(figures.crossfit)))
    found.append(("Policy", [_policy(config)]))
    if figures.base is not None:
        found.append(("Base", [merged_line(figures.base)]))
    if (reference := figures.reference) is not None and not figures.supervised:
        moved = f"; {moves}" if (moves := reference_moves(config)) else ""
        found.append(("Reference", [f"{reference.source}{moved}", f"weights {reference.digest[:16]}"]))
    found.append(("Objective", [described(config["objective"])] if not config.get("rlhf") else rewarded_lines(config)))
    found.append(("Training", _training(config)))
    found.append(("Why it stopped", _ending(figures)))
    return found


def _data_lines(figures: RunFigures) -> list[str]:
    if figures.supervised:
        return data_lines(figures)
    return made_pairs.data_lines(figures) if figures.generates_all else _data(figures.data)


def rewarded_lines(config: dict[str, Any]) -> list[str]:
    """The reward that is maximised, in lines."""
    rlhf = config["rlhf"]
    beta = BETAS[rlhf["method"]] if rlhf["beta"] is None else rlhf["beta"]
    lines = [f"{rlhf['method']} of TRL on the reward {rlhf['reward']}, KL coefficient {beta:g}"]
    return lines + ([f"tracked: {', '.join(rlhf['track'])}"] if rlhf["track"] else [])


def _policy(config: dict[str, Any]) -> str:
    """The model that is trained, and its adapters."""
    policy = config["policy"]
    model = "the built-in world's model" if policy["model"] is None else policy["model"]
    if policy["adapter"] is None:
        return f"{model}, with a LoRA adapter" if policy["lora"] else model
    if policy["lora"]:
        return f"{model} with the adapter {policy['adapter']} merged into it, and a fresh LoRA adapter"
    return f"{model}, with the adapter {policy['adapter']}, which is trained further"


def merged_line(base: BaseFigures) -> str:
    """Describes the model that a run made by merging an adapter."""
    unit = " nats" if base.what == "log-probabilities" else ""
    return (
        f"{base.model} with the adapter {base.adapter} merged into it, in {base.dtype}; rounding moved the "
        f"{base.what} of {base.tokens} tokens by {base.difference:.2g}{unit} on average (the adapter "
        f"itself by {base.change:.2g})"
    )


def _ending(figures: RunFigures) -> list[str]:
    decisions = [entry.decide for entry in figures.rounds if entry.decide is not None]
    ended = decisions[-1].reason if decisions and decisions[-1].stop else ""
    if figures.finished:
        return [ended[:1].upper() + ended[1:] or "No round is done"]
    lines = [f"It has not finished: {last_stage(figures)}", "Give the same command again to resume it"]
    return [*lines, f"The rounds have ended: {ended}"] if ended else lines


def _data(data: DataFigures | None) -> list[str]:
    if data is None:
        return ["No data read yet"]
    source = data.sources.get("pairs") or data.sources["prompts"]
    lines = [
        f"{source.read:,} {source.what} read from {source.source}",
        *([f"{data.pairs:,} to train on, {data.heldout:,} held out"] if "pairs" in data.sources else []),
        f"dropped: {counted(source.located(source.dropped)) or 'none'}",
    ]
    for what, counts in (("noted", source.located(source.noted)), ("forms of preference", source.converted)):
        lines += [f"{what}: {counted(counts)}"] if counts else []
    return lines


def crossfit_lines(review: CrossfitFigures) -> list[str]:
    """The result of the review before round 1, in lines."""
    return [
        f"pairs scored by {review.copies} copies of the policy that had not seen them: "
        f"{percent(review.accuracy)} ordered as labelled, {percent(review.kept / review.pairs)} stay",
        f"labels swapped: {percent(review.swapped)}; mean certainty |2p − 1| {number(review.certainty, 2)}",
    ]


def _training(config: dict[str, Any]) -> list[str]:
    training = config["training"]
    epochs = training["epochs"] or 1
    lines = [
        f"{config['rounds']} {'round' if config['rounds'] == 1 else 'rounds'}, learning rate "
        f"{training['learning_rate']:g}, batches of {training['batch_size']}, "
        + (
            f"{training['max_steps']:,} steps"
            if training["max_steps"]
            else f"{epochs:g} {'epoch' if epochs == 1 else 'epochs'}"
        )
    ]
    generates_all = bool(config["bootstrap"]) and config["bootstrap"]["method"] != "sera"
    return lines + (round_lines(config) if config["rounds"] > 1 or generates_all else [])


def reference_moves(config: dict[str, Any]) -> str:
    """What replaces the reference in each round; empty if nothing does."""
    update = config["reference"]["update"]
    by = {"each_round": "the previous round's policy", "average": "the moving average of the policies"}.get(update)
    return "" if by is None else f"replaced by {by} each round"


def round_lines(config: dict[str, Any]) -> list[str]:
    """The training data of later rounds, in lines: the recipe, offline pairs, generated pairs."""
    name, scoring, bootstrap = recipe_name(config), config["scoring"], config["bootstrap"]
    if bootstrap and bootstrap["method"] != "sera":
        return made_pairs.round_lines(config)
    plain = "" if scoring["length_correction"] == "none" else ", corrected for length"
    ensemble = f"margins with ensemble weight {scoring['ensemble_weight']:g}"
    lines = [
        f"recipe {name}" if name else "no recipe",
        f"offline pairs: {_rule(config['selection'])}, {ensemble}{plain}",
    ]
    if not bootstrap:
        return [*lines, "no generated pairs"]
    shares = ", ".join(percent(share, 0) for share in bootstrap["shares"][: config["rounds"] - 1])
    answers = f"{bootstrap['samples']} answers a prompt by {made_pairs.SAMPLED_FROM[bootstrap['sample_from']]}"
    rule, temperature = _rule(bootstrap["selection"]), bootstrap["temperature"]
    made = f"generated pairs: {answers} at temperature {temperature:g}, {rule}; share {shares}"
    return [*lines, made]


def _rule(selection: dict[str, Any]) -> str:
    rule = selection["rule"]
    if rule == "threshold":
        return f"margins of at least {selection['threshold']:g} nats selected"
    return "all selected" if rule == "all" else f"{rule} {percent(selection['fraction'], 0)} selected"

"""Warnings about the pairs that a round trains on, and about its training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from seralign.report.rules import Found, Rule, Watched, warning
from seralign.report.trainings import is_supervised, training_losses, values
from seralign.runs.layout import CHOSEN_LENGTH, CHOSEN_LOGP, HELDOUT_PREFIX, TRAINING_ACCURACY, TRAINING_MARGIN
from seralign.tables import number, percent

RULES: list[Rule] = []

_DEMONSTRATED = (
    "The policy learns the length of the demonstrations. If length is no quality, try dpo_norm, whose rewards are "
    "means over tokens, or give other demonstrations."
)


@warning(
    RULES,
    "length_bias",
    "Set scoring.length_correction: within_prompt, to select and generate without what length explains; or try "
    "objective.name: dpo_norm, whose reward is a mean over tokens.",
)
def _length_bias(run: Watched) -> Iterator[Found]:
    # A quarter of the variance of the margins is explained by length.
    limit = 0.5
    for entry in run.figures.rounds:
        followed = None if entry.select is None else entry.select.margin_length_correlation
        if followed is not None and abs(followed) > limit:
            kind = "longer" if followed > 0 else "shorter"
            text = f"The larger the margin of a pair in {entry.name}, the {kind} its chosen answer: correlation "
            yield Found(entry.name, followed, limit, f"{text}{number(followed, 2)}.")


@warning(
    RULES,
    "generated_length",
    "If length is no quality, set scoring.length_correction: matched, balanced or within_prompt, or bootstrap: null.",
)
def _generated_length(run: Watched) -> Iterator[Found]:
    # By length alone: corrected margins do not correlate with it. Differences below a fifth of an answer do not count.
    limit, least = 0.75, 0.2
    for entry in run.figures.rounds:
        made, sampled = entry.bootstrap, entry.sample
        share, by = (None, None) if made is None else (made.chosen_longer_kept, made.length_difference_kept)
        if share is None or by is None or max(share, 1 - share) <= limit:
            continue
        if sampled is None or abs(by) > least * sampled.length:
            kind, part = ("longer", share) if share > 0.5 else ("shorter", 1 - share)
            text = f"In {percent(part)} of the selected generated pairs of {entry.name}, the {kind} answer is chosen, "
            # Nothing ranks a demonstration and a sampled response, so no reward can be corrected.
            advice = "" if not run.figures.generates_all or run.figures.method == "online" else _DEMONSTRATED
            yield Found(entry.name, part, limit, f"{text}by {number(abs(by), 1)} tokens on average.", advice)


@warning(
    RULES,
    "generated_margins",
    "Where the policy's own rewards are the margins (scoring.reward: implicit), it grows surer of what no one has "
    "checked: lower bootstrap.shares, raise objective.beta, or set fewer rounds. Reward models may be exploited where "
    "they are wrong. A scorer or a judge that trains nothing (evaluation.scorer, evaluation.judge) measures whether "
    "answers get better.",
)
def _generated_margins(run: Watched) -> Iterator[Found]:
    # Where the policy's own rewards label the generated pairs, training on them widens the next margins.
    limit, first = 2.0, None
    for entry in run.figures.rounds:
        margin = None if entry.bootstrap is None else entry.bootstrap.margin_mean
        if margin is None or margin <= 0:
            continue
        first = margin if first is None else first
        if margin / first > limit:
            text = f"The margins of {entry.name}'s generated pairs are {number(margin / first, 1)} times those of the "
            yield Found(entry.name, margin / first, limit, f"{text}first generated pairs: {number(margin, 2)} nats.")


@warning(RULES, "alike", "The two answers hardly differ: raise bootstrap.temperature or bootstrap.samples.")
def _alike(run: Watched) -> Iterator[Found]:
    for entry in run.figures.rounds:
        alike = None if entry.bootstrap is None else entry.bootstrap.similarity_kept
        # Share of bigrams that the two answers of a pair have in common; pairs of the data may have more.
        limit = max(0.8, (entry.select.similarity_kept if entry.select else None) or 0.0)
        if alike is not None and alike > limit:
            text = f"Chosen and rejected of {entry.name}'s generated pairs have {percent(alike)} of their bigrams in "
            yield Found(entry.name, alike, limit, f"{text}common.")


@warning(
    RULES,
    "few",
    "Give more prompts (data.prompts, bootstrap.prompts), raise bootstrap.max_new_tokens where answers are cut off, or "
    "lower bootstrap.shares.",
)
def _few(run: Watched) -> Iterator[Found]:
    for entry in run.figures.rounds:
        mixed = entry.compose
        if entry.bootstrap is not None and mixed is not None and mixed.share < 0.5 * mixed.share_wanted:
            text = f"{percent(mixed.share)} of {entry.name}'s pairs are generated; {percent(mixed.share_wanted)} were "
            yield Found(entry.name, mixed.share, 0.5 * mixed.share_wanted, f"{text}asked for.")


@warning(
    RULES,
    "saturated",
    "Such pairs have almost no gradient: train less (training.epochs), or keep harder pairs (selection.rule: middle).",
)
def _saturated(run: Watched) -> Iterator[Found]:
    # At a reward margin of 2, the gradient of DPO has a quarter of its first weight: more training only widens margins.
    limit, wide = 0.98, 2.0
    for where, rows in run.rounds():
        right, margin = (_mean_of_end(values(rows, key)) for key in (TRAINING_ACCURACY, TRAINING_MARGIN))
        if right >= limit and margin >= wide:
            text = f"In the mean of the last quarter of {where}'s logged steps, {percent(right)} of the training pairs "
            yield Found(where, right, limit, f"{text}are ranked right, by a reward margin of {number(margin, 1)}.")


def _mean_of_end(found: Sequence[float]) -> float:
    """The mean of the last quarter of logged figures; 0 without any. A line of the log may be of a few pairs."""
    last = found[-max(1, len(found) // 4) :]
    return sum(last) / len(last) if last else 0.0


@warning(
    RULES,
    "chosen_logp",
    "Both responses of a pair become less likely, and text that is not in the data more likely: raise objective.beta, "
    "lower training.learning_rate, or train less (training.epochs).",
)
def _chosen_logp(run: Watched) -> Iterator[Found]:
    # Nats a token: each token of the chosen answers is a tenth less likely than before.
    limit, before = 0.1, None
    for where, rows in run.rounds():
        # The held-out pairs are the same in every round; lines without finite figures are left out.
        found = [(row.get(HELDOUT_PREFIX + CHOSEN_LOGP), row.get(HELDOUT_PREFIX + CHOSEN_LENGTH)) for row in rows]
        logps = [logp / length for logp, length in found if logp is not None and length]
        if logps:
            before = logps[0] if before is None else before
            fall = before - logps[-1]
            if fall > limit:
                text = f"A token of held-out pairs' chosen answers is {percent(1 - math.exp(-fall), 0)} less likely "
                yield Found(where, fall, limit, f"{text}after {where} than before round 1 ({number(fall, 2)} nats).")


@warning(
    RULES,
    "overfit",
    "It memorises its demonstrations: train less (training.epochs, or sft.epochs where a run begins with SFT), "
    "lower training.learning_rate, or give more demonstrations (data.demonstrations).",
)
def _overfit(run: Watched) -> Iterator[Found]:
    # Nats a token: each token a twentieth less likely than at the lowest held-out loss.
    limit = 0.05
    for one in training_losses(run.training, run.figures.objective):
        last, lowest = one.heldout_last, one.heldout_lowest
        if last is None or lowest is None or not is_supervised(one.name, run.figures.objective):
            continue
        if last - lowest > limit:
            text = f"The held-out loss of {one.title} ends at {number(last, 3)} nats a token, above its lowest, "
            yield Found(one.name, last - lowest, limit, f"{text}{number(lowest, 3)}.")

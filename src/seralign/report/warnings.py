"""What in a run's figures should worry its user, in plain words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from seralign.harm import below_half, fell_behind, harm
from seralign.intervals import Interval
from seralign.report import supervised
from seralign.report.format import called
from seralign.report.trainings import is_supervised, training_losses
from seralign.tables import number, percent, share

# Answers a third longer than the starting policy's are seen in summary; length is what preference training most
# often gains instead of quality (2310.03716).
LENGTH_GROWTH = 1.3
# Three of ten different bigrams gone. Longer answers alone lower the share too, by much less.
DISTINCT_LEFT = 0.7
# Answers that write some four tokens twice: one in five more than before is not the prompts' doing.
REPETITION_GAIN = 0.2
# Nats a token: each token of the chosen answers is a tenth less likely than before.
CHOSEN_FALL = 0.1
# Pairs that are ranked right have next to no gradient: more of the same training only widens their margins.
SATURATED = 0.98
# Nats a token that the held-out loss of SFT may end above its lowest: each token a twentieth less likely.
OVERFIT = 0.05
# Share of bigrams that the two answers of a generated pair have in common.
ALIKE = 0.8
# Nats an answer of some fifteen tokens: nearly half of the laboratory's rounds beyond it did harm, of the others one in
# thirty (docs/evidence.md). Picking the best of 1,000 answers costs as much (2401.01879).
KL_ANSWER = 6.0
# Long answers may differ by more: a tenth of a nat for each token.
KL_TOKEN = 0.1
# Answers that were cut at the length limit; they make no pairs, and are judged half-finished.
UNFINISHED = 0.2
# Of the share of generated pairs that the round asked for.
FEW_GENERATED = 0.5
# A quarter of the variance of the margins is explained by length.
LENGTH_BIAS = 0.5

ADVICE = {
    "length": "Read some answers: if they say no more, try objective.name: simpo, whose reward is a mean over tokens, "
    "a larger objective.beta, or fewer rounds.",
    "diversity": "Raise objective.beta, lower training.learning_rate, or lower bootstrap.shares.",
    "repetition": "Raise objective.beta or lower training.learning_rate; the policies of earlier rounds are kept in "
    "round-N/train.",
    "unfinished": "Raise bootstrap.max_new_tokens and evaluation.max_new_tokens, or see whether the "
    "policy goes in circles.",
    "kl": "Raise objective.beta, lower training.learning_rate, or train less (rounds, training.epochs).",
    "harm": "Lower training.learning_rate or train less (training.epochs), and see that chosen and rejected are the "
    "right way round in the data. stop.metric: margin_accuracy ends a run here and takes the round before it.",
    "fall": "The rounds past the best one were not worth their while: stop.metric: margin_accuracy with a larger "
    "stop.min_gain ends a run here; lower training.learning_rate or train less (training.epochs).",
    "win_rate": "Its answers are worse than an earlier policy's: stop.metric: win_rate ends a run here and takes the "
    "best round; raise objective.beta or lower training.learning_rate.",
    "baseline": "The rounds were not worth their while: set rounds: 1 and train longer (training.epochs).",
    "length_bias": "Set scoring.length_correction: true, as recipe: sera_stable does, to select without what length "
    "explains; or try simpo, whose reward is a mean over tokens.",
    "alike": "There is little to choose from: raise bootstrap.temperature or bootstrap.samples.",
    "few": "Give more prompts (data.prompts, bootstrap.prompts), raise bootstrap.max_new_tokens where answers "
    "are cut off, or lower bootstrap.shares.",
    "saturated": "They teach nothing more: train less (training.epochs), or keep harder pairs (selection.rule: "
    "middle).",
    "overfit": "It learns its demonstrations by heart: train less (training.epochs, or sft.epochs where a run begins "
    "with SFT), lower training.learning_rate, or give more demonstrations (data.demonstrations).",
    "chosen_logp": "Both answers of a pair are pushed down, and what is not in the data rises: raise objective.beta, "
    "lower training.learning_rate, or train less (training.epochs).",
}


@dataclass(frozen=True)
class RunWarning:
    """A figure beyond its limit.

    ``kind`` names the rule, ``where`` the round; ``text`` says what was found with the figure, ``advice`` what to do
    about it, naming configuration keys.
    """

    kind: str
    where: str
    value: float
    limit: float
    text: str
    advice: str


def run_warnings(figures: dict[str, Any], training: dict[str, list[dict[str, Any]]]) -> list[RunWarning]:
    """What should worry the user of a run: of each kind the latest warning, with the other rounds that had it.

    Args:
        figures: ``policies``, ``rounds`` and ``data`` of ``seralign.report.figures.run_figures``.
        training: Metrics of its trainings, by name.
    """
    objective = figures.get("objective", "")
    found: dict[str, list[RunWarning]] = {}
    losses = training_losses(training, objective)
    for warning in (
        *_of_policies(figures),
        *_of_rounds(figures["rounds"]),
        *_of_training(training),
        *_of_losses([one for one in losses if is_supervised(one["name"], objective)]),
    ):
        # The distance from the model that SFT began with is no harm: it is what demonstrations are for.
        if objective == "sft" and warning.kind == "kl":
            continue
        advice = supervised.ADVICE.get(warning.kind, warning.advice) if objective == "sft" else warning.advice
        found.setdefault(warning.kind, []).append(replace(warning, advice=advice))
    return [_latest(warnings) for warnings in found.values()]


def _latest(warnings: list[RunWarning]) -> RunWarning:
    *others, last = warnings
    earlier = f" So it was in {', '.join(warning.where for warning in others)}." if others else ""
    return replace(last, text=last.text + earlier)


def _warning(kind: str, where: str, value: float, limit: float, text: str) -> RunWarning:
    return RunWarning(kind, where, value, limit, text, ADVICE[kind])


def _of_policies(figures: dict[str, Any]) -> Iterator[RunWarning]:
    """Of the rounds' policies, against the starting policy, earlier rounds and the baseline."""
    policies = {policy["role"]: policy for policy in figures["policies"]}
    rounds = [policy for role, policy in policies.items() if role.startswith("round-")]
    start = policies.get("initial")
    if start is None:
        return
    best: dict[str, Any] | None = None
    earlier: list[str] = []
    for policy in rounds:
        if policy["n"]:
            yield from _of_answers(policy, start)
        yield from _harmful(policy, start)
        yield from _lost(policy, earlier, "win_rate")
        earlier.append(policy["name"])
        if policy["heldout_accuracy"] is not None:
            yield from _fallen(policy, best)
            best = max(best or policy, policy, key=lambda one: one["heldout_accuracy"]["mean"])
    decided = [entry["decide"]["best_round"] for entry in figures["rounds"] if entry["decide"]]
    result = policies.get(f"round-{decided[-1]}") if decided else None
    if result is not None and "baseline" in policies:
        baseline = policies["baseline"]
        yield from _lost(result, [baseline["name"]], "baseline", called(baseline))


def _of_answers(policy: dict[str, Any], start: dict[str, Any]) -> Iterator[RunWarning]:
    where, before = policy["name"], start["name"]
    growth = policy["length"] / start["length"]
    if growth > LENGTH_GROWTH:
        length = number(policy["length"], 1)
        text = f"Answers of {where} are {number(growth, 1)} times as long as {before}'s: {length} tokens."
        yield _warning("length", where, growth, LENGTH_GROWTH, text)
    # None where no answer has two tokens.
    left = (policy["distinct_2"] or 0.0) / start["distinct_2"] if start["distinct_2"] else 1.0
    if left < DISTINCT_LEFT:
        text = f"Answers of {where} have {percent(1 - left, 0)} fewer different bigrams than {before}'s (distinct-2)."
        yield _warning("diversity", where, left, DISTINCT_LEFT, text)
    gain = policy["repetition"] - start["repetition"]
    if gain > REPETITION_GAIN:
        share = (
            f"{percent(policy['repetition'])} of the answers of {where}, {percent(start['repetition'])} of {before}'s"
        )
        yield _warning("repetition", where, gain, REPETITION_GAIN, f"{share}, write some four tokens twice.")
    if policy["unfinished"] > UNFINISHED:
        share = (
            f"{percent(policy['unfinished'])} of the answers of {where}, {percent(start['unfinished'])} of {before}'s"
        )
        yield _warning(
            "unfinished", where, policy["unfinished"], UNFINISHED, f"{share}, are cut off at the length limit."
        )
    budget = max(KL_ANSWER, KL_TOKEN * policy["length"])
    kl = policy["kl"]
    if kl is not None and kl["mean"] > budget:
        far = number(kl["mean"], 2)
        text = f"Answers of {where} are {far} nats away from the reference; the budget is {number(budget, 1)}."
        yield _warning("kl", where, kl["mean"], budget, text)


def _harmful(policy: dict[str, Any], start: dict[str, Any]) -> Iterator[RunWarning]:
    """What the terminal says as well, by the same rule."""
    rates = (policy["heldout_accuracy"], policy["win_rates"].get(start["name"]))
    found = harm(*(None if rate is None else Interval(**rate) for rate in rates))
    if found is not None:
        where = policy["name"]
        advice = ADVICE["harm" if found.by == "heldout_accuracy" else "win_rate"]
        yield RunWarning("harm", where, found.value, 0.5, f"{where.capitalize()} does harm: {found.text}.", advice)


def _fallen(policy: dict[str, Any], best: dict[str, Any] | None) -> Iterator[RunWarning]:
    """A held-out accuracy that fell behind the best round's before it."""
    if best is None:
        return
    own, before, rate = policy["heldout_accuracy"], best["heldout_accuracy"], policy["win_rates"].get(best["name"])
    if fell_behind(Interval(**own), Interval(**before), None if rate is None else Interval(**rate)):
        where = policy["name"]
        text = f"{where.capitalize()} has a held-out accuracy of {share(own)}; {best['name']}, the best before it, of "
        text += f"{share(before)}."
        yield _warning("fall", where, own["mean"], before["low"], text)


def _lost(policy: dict[str, Any], rivals: list[str], kind: str, named: str | None = None) -> Iterator[RunWarning]:
    """The clearest loss, where the whole interval of a win rate is below one half; ``named``: the rival's name for
    people."""
    rates = {rival: Interval(**policy["win_rates"][rival]) for rival in rivals if rival in policy["win_rates"]}
    lost = {rival: rate for rival, rate in rates.items() if below_half(rate)}
    if lost:
        where, rival = policy["name"], min(lost, key=lambda rival: lost[rival].high or 0.0)
        rate = lost[rival]
        text = f"{where.capitalize()} wins {share(rate.to_dict())} against {named or rival}: less than half."
        yield _warning(kind, where, rate.mean, 0.5, text)


def _of_rounds(rounds: list[dict[str, Any]]) -> Iterator[RunWarning]:
    """Of what the rounds selected, generated and mixed."""
    for entry in rounds:
        where = f"round {entry['round']}"
        selected, made, mixed = entry["select"] or {}, entry["bootstrap"] or {}, entry["compose"] or {}
        followed = selected.get("margin_length_correlation")
        if followed is not None and abs(followed) > LENGTH_BIAS:
            kind = "longer" if followed > 0 else "shorter"
            text = f"The larger the margin of a pair in {where}, the {kind} its chosen answer: correlation "
            text += f"{number(followed, 2)}."
            yield _warning("length_bias", where, followed, LENGTH_BIAS, text)
        alike = made.get("similarity_kept")
        limit = max(ALIKE, selected.get("similarity_kept") or 0.0)
        if alike is not None and alike > limit:
            text = f"Chosen and rejected of {where}'s generated pairs have {percent(alike)} of their bigrams in common."
            yield _warning("alike", where, alike, limit, text)
        limit = FEW_GENERATED * mixed.get("share_wanted", 0.0)
        if made and mixed and mixed["share"] < limit:
            share, wanted = percent(mixed["share"]), percent(mixed["share_wanted"])
            text = f"{share} of {where}'s pairs are generated; {wanted} were asked for."
            yield _warning("few", where, mixed["share"], limit, text)


def _of_training(training: dict[str, list[dict[str, Any]]]) -> Iterator[RunWarning]:
    """Of what the rounds' trainings did to the rewards of pairs; held-out ones where there are any."""
    before = None
    for where, rows in training.items():
        if not where.startswith("round "):
            continue
        accuracies = [row["rewards/accuracies"] for row in rows if row.get("rewards/accuracies") is not None]
        # A line is of log_steps steps, and may be of a few pairs.
        last = accuracies[-max(1, len(accuracies) // 4) :]
        right = sum(last) / len(last) if last else 0.0
        if right >= SATURATED:
            text = f"In the mean of the last quarter of {where}'s logged steps, {percent(right)} of the training pairs "
            text += "are ranked right."
            yield _warning("saturated", where, right, SATURATED, text)
        logps = _logps_a_token(rows)
        if not logps:
            continue
        before = logps[0] if before is None else before
        fall = before - logps[-1]
        if fall > CHOSEN_FALL:
            text = (
                f"A token of held-out pairs' chosen answers is {percent(1 - math.exp(-fall), 0)} less likely after "
                f"{where} than before round 1 ({number(fall, 2)} nats)."
            )
            yield _warning("chosen_logp", where, fall, CHOSEN_FALL, text)


def _of_losses(losses: list[dict[str, Any]]) -> Iterator[RunWarning]:
    """Of supervised trainings whose held-out loss rises again."""
    for one in losses:
        loss = one["heldout_loss"]
        if loss is not None and loss["last"] - loss["lowest"] > OVERFIT:
            text = f"The held-out loss of {one['called']} ends at {number(loss['last'], 3)} nats a token, above its "
            text += f"lowest, {number(loss['lowest'], 3)}."
            yield _warning("overfit", one["name"], loss["last"] - loss["lowest"], OVERFIT, text)


def _logps_a_token(rows: list[dict[str, Any]]) -> list[float]:
    """Log-probability of the chosen answers by token, in nats, line by line of the held-out pairs, which are the same
    in every round; lines without finite figures left out."""
    found = [(row.get("eval_logps/chosen"), row.get("eval_lengths/chosen")) for row in rows]
    return [logp / length for logp, length in found if logp is not None and length]

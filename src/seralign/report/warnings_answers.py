"""Warnings about a policy's answers and its ranking of held-out pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seralign.harm import below_half, fell_behind, harm
from seralign.report.record import EvaluatedPolicy
from seralign.report.rules import Found, Rule, Watched, warning
from seralign.tables import number, percent, share

RULES: list[Rule] = []

_REPEATING = (
    "Lower training.learning_rate or train less (training.epochs), and check whether the demonstrations repeat "
    "themselves."
)


@warning(
    RULES,
    "length",
    "Read some answers: if they say no more, try a larger objective.beta, fewer rounds, or objective.name: "
    "dpo_norm, whose reward is a mean over tokens.",
    supervised="Compare them with the lengths of the demonstrations (seralign inspect). If they are longer, train less "
    "(training.epochs).",
)
def _length(run: Watched) -> Iterator[Found]:
    # Preference training most often gains length instead of quality (2310.03716).
    limit = 1.3
    for policy, start in run.pairs():
        length, before = policy.figures.length, start.figures.length
        if length and before and length / before > limit:
            text = f"Answers of {policy.name} are {number(length / before, 1)} times as long as {start.name}'s: "
            yield Found(policy.name, length / before, limit, f"{text}{number(length, 1)} tokens.")


@warning(
    RULES,
    "diversity",
    "Raise objective.beta, lower training.learning_rate, or lower bootstrap.shares.",
    supervised=_REPEATING,
)
def _diversity(run: Watched) -> Iterator[Found]:
    # Longer answers alone lower the share of different bigrams too, by much less.
    limit = 0.7
    for policy, start in run.pairs():
        # distinct_2 is None where no answer has two tokens.
        before = start.figures.distinct_2
        left = (policy.figures.distinct_2 or 0.0) / before if before else 1.0
        if left < limit:
            text = f"Answers of {policy.name} have {percent(1 - left, 0)} fewer different bigrams than {start.name}'s "
            yield Found(policy.name, left, limit, f"{text}(distinct-2).")


@warning(
    RULES,
    "repetition",
    "Raise objective.beta or lower training.learning_rate; the policies of earlier rounds are kept in round-N/train.",
    supervised=_REPEATING,
)
def _repetition(run: Watched) -> Iterator[Found]:
    # One answer in five more than before: the prompts do not cause that.
    limit = 0.2
    for policy, start in run.pairs():
        own, before = policy.figures.repetition or 0.0, start.figures.repetition or 0.0
        if own - before > limit:
            text = f"{percent(own)} of the answers of {policy.name}, {percent(before)} of {start.name}'s, write some "
            yield Found(policy.name, own - before, limit, f"{text}four tokens twice.")


@warning(
    RULES,
    "unfinished",
    "Raise bootstrap.max_new_tokens (or rlhf.max_new_tokens) and evaluation.max_new_tokens, or check whether the "
    "answers repeat themselves.",
    supervised="Raise evaluation.max_new_tokens, or check with seralign inspect whether the demonstrations end with "
    "the model's end token.",
)
def _unfinished(run: Watched) -> Iterator[Found]:
    # Answers that were cut at the length limit make no pairs, and are judged half-finished.
    limit = 0.2
    for policy, start in run.pairs():
        own = policy.figures.unfinished or 0.0
        if own > limit:
            text = f"{percent(own)} of the answers of {policy.name}, {percent(start.figures.unfinished)} of "
            yield Found(policy.name, own, limit, f"{text}{start.name}'s, are cut off at the length limit.")


@warning(RULES, "kl", "Raise objective.beta, lower training.learning_rate, or train less (rounds, training.epochs).")
def _kl(run: Watched) -> Iterator[Found]:
    # Six nats for fifteen tokens: nearly half of the laboratory's rounds beyond it did harm (docs/evidence.md). Picking
    # the best of 1,000 answers costs as much (2401.01879). Long answers may differ by a tenth of a nat a token.
    if run.figures.supervised:
        return  # demonstrations are there to move the policy away from the model
    for policy, _ in run.pairs():
        kl, budget = policy.figures.kl, max(6.0, 0.1 * (policy.figures.length or 0.0))
        if kl is not None and kl.mean > budget:
            text = f"Answers of {policy.name} are {number(kl.mean, 2)} nats away from the reference; the budget is "
            yield Found(policy.name, kl.mean, budget, f"{text}{number(budget, 1)}.")


_WORSE_ANSWERS = (
    "Its answers are worse than an earlier policy's: stop.metric: win_rate ends a run here and takes the best round; "
    "raise objective.beta or lower training.learning_rate."
)


@warning(
    RULES,
    "harm",
    "Lower training.learning_rate or train less (training.epochs), and check that chosen and rejected are not "
    "exchanged in the data. stop.metric: margin_accuracy ends a run here and takes the round before it.",
    supervised="Lower training.learning_rate or train less (training.epochs), and read some answers and "
    "demonstrations.",
)
def _harm(run: Watched) -> Iterator[Found]:
    """The terminal reports it after the round, by the same rule."""
    start = "" if run.figures.start is None else run.figures.start.name
    for policy in run.figures.evaluated_rounds:
        found = harm(policy.figures.heldout_accuracy, policy.figures.win_rates.get(start))
        if found is not None:
            text = f"{policy.name.capitalize()} does harm: {found.text}."
            yield Found(policy.name, found.value, 0.5, text, _WORSE_ANSWERS if found.by == "win_rate" else "")


@warning(RULES, "win_rate", _WORSE_ANSWERS)
def _win_rate(run: Watched) -> Iterator[Found]:
    rounds = run.figures.evaluated_rounds
    for place, policy in enumerate(rounds):
        yield from _lost(policy, rounds[:place])


@warning(
    RULES,
    "fall",
    "The rounds after the best one did not help: stop.metric: margin_accuracy with a larger stop.min_gain "
    "ends a run here; lower training.learning_rate or train less (training.epochs).",
)
def _fall(run: Watched) -> Iterator[Found]:
    best: EvaluatedPolicy | None = None
    for policy in run.figures.evaluated_rounds:
        own = policy.figures.heldout_accuracy
        if own is None:
            continue
        before = None if best is None else best.figures.heldout_accuracy
        if best is None or before is None:
            best = policy
            continue
        if fell_behind(own, before, policy.figures.win_rates.get(best.name)):
            text = f"{policy.name.capitalize()} has a held-out accuracy of {share(own)}; {best.name}, the best before "
            yield Found(policy.name, own.mean, before.low or 0.0, f"{text}it, of {share(before)}.")
        best = policy if own.mean > before.mean else best


@warning(RULES, "baseline", "The rounds did not help: set rounds: 1 and train longer (training.epochs).")
def _baseline(run: Watched) -> Iterator[Found]:
    decided = [entry.decide.best_round for entry in run.figures.rounds if entry.decide is not None]
    result, baseline = run.figures.policy(f"round-{decided[-1]}") if decided else None, run.figures.policy("baseline")
    if result is not None and baseline is not None:
        yield from _lost(result, [baseline])


def _lost(policy: EvaluatedPolicy, rivals: Sequence[EvaluatedPolicy]) -> Iterator[Found]:
    """The clearest loss, where the whole interval of a win rate is below one half."""
    rates = {rival.title: policy.figures.win_rates.get(rival.name) for rival in rivals}
    lost = {rival: rate for rival, rate in rates.items() if rate is not None and below_half(rate)}
    if lost:
        rival, rate = min(lost.items(), key=lambda item: item[1].high or 0.0)
        text = f"{policy.name.capitalize()} wins {share(rate)} against {rival}: less than half."
        yield Found(policy.name, rate.mean, 0.5, text)

"""When the figures of a run should worry its user: a function for each warning, with its limit and its advice.

A new warning is one function here: it yields what it finds, and ``warning`` gives its name and advice. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from seralign.harm import below_half, fell_behind, harm
from seralign.report.record import EvaluatedPolicy, RunFigures, RunWarning
from seralign.report.rules import RULES, Found, Watched, warning
from seralign.report.trainings import is_supervised, training_losses, values
from seralign.runs.figures import Metrics
from seralign.runs.layout import CHOSEN_LENGTH, CHOSEN_LOGP, HELDOUT_PREFIX, TRAINING_ACCURACY
from seralign.tables import number, percent, share


def run_warnings(figures: RunFigures, training: Mapping[str, Sequence[Metrics]]) -> tuple[RunWarning, ...]:
    """What should worry the user of a run: of each kind the latest warning, with the other rounds that had it.

    Args:
        figures: Of the run.
        training: Metrics of its trainings, by name.
    """
    warnings = []
    for rule in RULES:
        found = list(rule.find(Watched(figures, training)))
        if found:
            *others, last = found
            advice = rule.supervised if figures.supervised else last.advice or rule.advice
            text = last.text + (f" Also in {', '.join(other.where for other in others)}." if others else "")
            warnings.append(RunWarning(rule.kind, last.where, last.value, last.limit, text, advice))
    return tuple(warnings)


_REPEATING = (
    "Lower training.learning_rate or train less (training.epochs), and check whether the demonstrations repeat "
    "themselves."
)


@warning(
    "length",
    "Read some answers: if they say no more, try objective.name: simpo, whose reward is a mean over tokens, a larger "
    "objective.beta, or fewer rounds.",
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
    "unfinished",
    "Raise bootstrap.max_new_tokens and evaluation.max_new_tokens, or check whether the answers repeat themselves.",
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


@warning("kl", "Raise objective.beta, lower training.learning_rate, or train less (rounds, training.epochs).")
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


@warning("win_rate", _WORSE_ANSWERS)
def _win_rate(run: Watched) -> Iterator[Found]:
    rounds = run.figures.evaluated_rounds
    for place, policy in enumerate(rounds):
        yield from _lost(policy, rounds[:place])


@warning(
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


@warning("baseline", "The rounds did not help: set rounds: 1 and train longer (training.epochs).")
def _baseline(run: Watched) -> Iterator[Found]:
    decided = [entry.decide.best_round for entry in run.figures.rounds if entry.decide is not None]
    result, baseline = run.figures.policy(f"round-{decided[-1]}") if decided else None, run.figures.policy("baseline")
    if result is not None and baseline is not None:
        yield from _lost(result, [baseline])


@warning(
    "length_bias",
    "Set scoring.length_correction: within_prompt, to select and generate without what length explains; or try simpo, "
    "whose reward is a mean over tokens.",
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
            yield Found(entry.name, part, limit, f"{text}by {number(abs(by), 1)} tokens on average.")


@warning("alike", "The two answers hardly differ: raise bootstrap.temperature or bootstrap.samples.")
def _alike(run: Watched) -> Iterator[Found]:
    for entry in run.figures.rounds:
        alike = None if entry.bootstrap is None else entry.bootstrap.similarity_kept
        # Share of bigrams that the two answers of a pair have in common; pairs of the data may have more.
        limit = max(0.8, (entry.select.similarity_kept if entry.select else None) or 0.0)
        if alike is not None and alike > limit:
            text = f"Chosen and rejected of {entry.name}'s generated pairs have {percent(alike)} of their bigrams in "
            yield Found(entry.name, alike, limit, f"{text}common.")


@warning(
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
    "saturated",
    "Such pairs have almost no gradient: train less (training.epochs), or keep harder pairs (selection.rule: middle).",
)
def _saturated(run: Watched) -> Iterator[Found]:
    # Pairs that are ranked right have next to no gradient: more of the same training only widens their margins.
    limit = 0.98
    for where, rows in run.rounds():
        accuracies = values(rows, TRAINING_ACCURACY)
        # A line is of log_steps steps, and may be of a few pairs.
        last = accuracies[-max(1, len(accuracies) // 4) :]
        right = sum(last) / len(last) if last else 0.0
        if right >= limit:
            text = f"In the mean of the last quarter of {where}'s logged steps, {percent(right)} of the training pairs "
            yield Found(where, right, limit, f"{text}are ranked right.")


@warning(
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


def _lost(policy: EvaluatedPolicy, rivals: Sequence[EvaluatedPolicy]) -> Iterator[Found]:
    """The clearest loss, where the whole interval of a win rate is below one half."""
    rates = {rival.title: policy.figures.win_rates.get(rival.name) for rival in rivals}
    lost = {rival: rate for rival, rate in rates.items() if rate is not None and below_half(rate)}
    if lost:
        rival, rate = min(lost.items(), key=lambda item: item[1].high or 0.0)
        text = f"{policy.name.capitalize()} wins {share(rate)} against {rival}: less than half."
        yield Found(policy.name, rate.mean, 0.5, text)

"""When a figure becomes a warning: on either side of each limit, with figures made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest
from hand_made import figures_of

from seralign.config import RunConfig
from seralign.config.fields import all_keys
from seralign.config.stop import StopWarning
from seralign.intervals import Interval
from seralign.report.record import EvaluatedPolicy, RoundFigures, RunFigures, RunWarning
from seralign.report.warnings import RULES, round_warnings, run_warnings
from seralign.runs.figures import (
    BootstrapFigures,
    ComposeFigures,
    DecideFigures,
    EvaluateFigures,
    SampleFigures,
    SelectFigures,
)


def rate(mean: float, half: float | None = None) -> Interval:
    return Interval(mean, None, None, 100) if half is None else Interval(mean, mean - half, mean + half, 100)


ADVICE = {rule.kind: rule.advice for rule in RULES}
START = EvaluateFigures("sft", n=100, length=20.0, distinct_2=0.5, repetition=0.1, unfinished=0.0, kl=rate(0.0))
ROUND = RoundFigures(
    2,
    select=figures_of(SelectFigures, margin_length_correlation=0.1, similarity_kept=0.3),
    bootstrap=figures_of(BootstrapFigures, similarity_kept=0.4),
    compose=ComposeFigures(0, 0, 0.3, 0.3),
)


def after(*changes: dict[str, Any], baseline: bool = False, best: int | None = None) -> list[RunWarning]:
    """The warnings of rounds 1, 2, ... whose policies are the starting policy with these changes; ``best`` of them is
    the result."""
    policies = [EvaluatedPolicy("initial", START)]
    if baseline:
        policies.append(EvaluatedPolicy("baseline", replace(START, name="dpo")))
    for index, change in enumerate(changes, start=1):
        given = {"name": f"round {index}", "heldout_accuracy": rate(0.6, 0.05)} | change
        policies.append(EvaluatedPolicy(f"round-{index}", replace(START, **given)))
    decided = () if best is None else (RoundFigures(len(changes), decide=DecideFigures(True, "", best, None)),)
    return [*run_warnings(RunFigures("run", "dpo", policies=tuple(policies), rounds=decided), {})]


def in_round(**changes: dict[str, Any]) -> list[RunWarning]:
    """The warnings of a round whose stages have these figures besides."""
    stages: Any = {stage: replace(getattr(ROUND, stage), **figures) for stage, figures in changes.items()}
    return [*run_warnings(RunFigures("run", "dpo", rounds=(replace(ROUND, **stages),)), {})]


def test_a_run_in_which_all_is_well_has_none() -> None:
    assert after({}, {}) == []
    assert in_round() == []


@pytest.mark.parametrize(
    ("change", "kind", "value", "limit", "says"),
    [
        ({"length": 27.0}, "length", 1.35, 1.3, "1.4 times as long as sft's: 27.0 tokens"),
        ({"distinct_2": 0.3}, "diversity", 0.6, 0.7, "40% fewer different bigrams than sft's"),
        ({"distinct_2": None}, "diversity", 0.0, 0.7, "100% fewer"),
        ({"repetition": 0.35}, "repetition", 0.25, 0.2, "35.0% of the answers of round 1, 10.0% of sft's"),
        ({"unfinished": 0.25}, "unfinished", 0.25, 0.2, "25.0% of the answers of round 1, 0.0% of sft's"),
        ({"kl": rate(6.5)}, "kl", 6.5, 6.0, "6.50 nats away from the reference; the budget is 6.0"),
        (
            {"heldout_accuracy": rate(0.44, 0.05)},
            "harm",
            0.44,
            0.5,
            "does harm: its held-out accuracy is 44.0% (39.0 to 49.0).",
        ),
    ],
)
def test_beyond_the_limit(change: dict[str, Any], kind: str, value: float, limit: float, says: str) -> None:
    (warning,) = after(change)
    assert (warning.kind, warning.where) == (kind, "round 1")
    assert (warning.value, warning.limit) == pytest.approx((value, limit))
    assert says in warning.text
    assert warning.advice == ADVICE[kind]


@pytest.mark.parametrize(
    "change",
    [
        {"length": 26.0},
        {"distinct_2": 0.36},
        {"repetition": 0.29},
        {"unfinished": 0.2},
        {"kl": rate(6.0)},
        {"kl": None},
        {"heldout_accuracy": rate(0.46, 0.05)},
        {"heldout_accuracy": rate(0.1, None)},
        {"heldout_accuracy": None},
        # One half is within the interval: it may be chance.
        {"win_rates": {"sft": rate(0.48, 0.05)}},
        {"win_rates": {"sft": rate(0.1, None)}},
        # Nothing was sampled.
        {"n": 0, "length": None, "distinct_2": None, "repetition": None, "unfinished": None, "kl": None},
    ],
    ids=str,
)
def test_within_the_limit(change: dict[str, Any]) -> None:
    assert after(change) == []


@pytest.mark.parametrize(
    ("share", "by", "sampled", "says"),
    [
        (0.993, 28.1, 18.0, "In 99.3% of the selected generated pairs of round 2, the longer answer is chosen"),
        (0.2, -6.0, 20.0, "In 80.0% of the selected generated pairs of round 2, the shorter answer is chosen"),
        (0.75, 28.1, 18.0, None),
        (0.25, -28.1, 18.0, None),
        # Often, but by a token or two: the answers are as long.
        (0.9, 3.6, 18.0, None),
        (0.9, 3.7, 18.0, "by 3.7 tokens on average."),
        (None, None, 18.0, None),
    ],
)
def test_generated_pairs_that_prefer_length(
    share: float | None, by: float | None, sampled: float, says: str | None
) -> None:
    """Read from the lengths: the correlation of corrected margins with length is zero, and 0.0 here."""
    made = replace(
        figures_of(BootstrapFigures, margin_length_correlation=0.0, similarity_kept=0.4),
        chosen_longer_kept=share,
        length_difference_kept=by,
    )
    entry = replace(ROUND, bootstrap=made, sample=figures_of(SampleFigures, length=sampled))
    found = run_warnings(RunFigures("run", "dpo", rounds=(entry,)), {})
    assert [warning.kind for warning in found] == ([] if says is None else ["generated_length"])
    assert says is None or says in found[0].text


def test_the_budget_of_kl_grows_with_the_answers() -> None:
    """200 tokens may be 20 nats away, a tenth of a nat each."""
    kinds = [warning.kind for warning in after({"length": 200.0, "kl": rate(19.0)})]
    assert kinds == ["length"]
    limits = {warning.kind: warning.limit for warning in after({"length": 200.0, "kl": rate(21.0)})}
    assert limits["kl"] == pytest.approx(20.0)


def test_a_loss_to_the_starting_policy_is_harm() -> None:
    (warning,) = after({"win_rates": {"sft": rate(0.4, 0.05)}})
    assert (warning.kind, warning.value, warning.advice) == ("harm", 0.4, ADVICE["win_rate"])
    assert warning.text == "Round 1 does harm: it wins 40.0% (35.0 to 45.0) against the starting policy."


def test_a_round_whose_answers_win_did_not_fall() -> None:
    """The demo's: held-out accuracy falls beyond the intervals while gold rises, round after round."""
    first = {"heldout_accuracy": rate(0.70, 0.02)}
    second = {"heldout_accuracy": rate(0.60, 0.02)}
    assert [warning.kind for warning in after(first, second)] == ["fall"]
    assert after(first, second | {"win_rates": {"round 1": rate(0.58, 0.03)}}) == []
    kinds = [warning.kind for warning in after(first, second | {"win_rates": {"round 1": rate(0.52, 0.03)}})]
    assert kinds == ["fall"]


def test_a_fall_is_below_the_best_round_with_its_whole_interval() -> None:
    def accuracies(*means: float) -> list[RunWarning]:
        return after(*({"heldout_accuracy": rate(mean, 0.04)} for mean in means))

    assert accuracies(0.62, 0.56) == []
    (warning,) = accuracies(0.75, 0.70, 0.65)
    assert (warning.kind, warning.where) == ("fall", "round 3")
    assert (warning.value, warning.limit) == pytest.approx((0.65, 0.71))
    says = "Round 3 has a held-out accuracy of 65.0% (61.0 to 69.0); round 1, the best before it, of 75.0% (71.0 to "
    assert warning.text == says + "79.0)."
    assert [warning.kind for warning in accuracies(0.70, 0.40)] == ["harm", "fall"]


def test_a_round_may_lose_to_the_one_before_it() -> None:
    second = {"win_rates": {"sft": rate(0.6, 0.02), "round 1": rate(0.45, 0.02), "dpo": rate(0.1, 0.02)}}
    (warning,) = after({}, second)
    assert (warning.kind, warning.where, warning.value) == ("win_rate", "round 2", 0.45)
    assert "wins 45.0% (43.0 to 47.0) against round 1: less than half" in warning.text
    # Of several losses the clearest.
    (worse,) = after({}, {}, {"win_rates": {"round 1": rate(0.3, 0.02), "round 2": rate(0.45, 0.02)}})
    assert "against round 1: less" in worse.text


def test_only_the_round_that_is_the_result_has_to_beat_the_baseline() -> None:
    lost, won = {"win_rates": {"dpo": rate(0.4, 0.02)}}, {"win_rates": {"dpo": rate(0.6, 0.02)}}
    assert after(lost, won, baseline=True, best=2) == []
    assert after(won, lost, baseline=True, best=1) == []
    (warning,) = after(won, lost, baseline=True, best=2)
    assert (warning.kind, warning.where) == ("baseline", "round 2")
    assert "against dpo alone, as many steps: less than half" in warning.text


def test_of_each_kind_the_latest_is_told_with_the_earlier_rounds() -> None:
    warnings = after({"length": 40.0}, {"length": 50.0, "unfinished": 0.9}, {"length": 60.0})
    by_kind = {warning.kind: warning for warning in warnings}
    assert set(by_kind) == {"length", "unfinished"}
    assert by_kind["length"].value == pytest.approx(3.0)
    assert by_kind["length"].text.endswith("Also in round 1, round 2.")
    assert by_kind["unfinished"].where == "round 2"
    assert "Also in" not in by_kind["unfinished"].text


@pytest.mark.parametrize(
    ("changes", "kind", "value", "says"),
    [
        ({"select": {"margin_length_correlation": 0.6}}, "length_bias", 0.6, "the longer its chosen answer"),
        ({"select": {"margin_length_correlation": -0.6}}, "length_bias", -0.6, "the shorter its chosen answer"),
        ({"bootstrap": {"similarity_kept": 0.85}}, "alike", 0.85, "85.0% of their bigrams in common"),
        ({"compose": {"share": 0.14}}, "few", 0.14, "14.0% of round 2's pairs are generated; 30.0% were asked for"),
    ],
)
def test_warnings_of_a_round(changes: dict[str, Any], kind: str, value: float, says: str) -> None:
    (warning,) = in_round(**changes)
    assert (warning.kind, warning.where, warning.value) == (kind, "round 2", value)
    assert says in warning.text


def test_pairs_may_be_alike_where_the_data_are() -> None:
    assert in_round(bootstrap={"similarity_kept": 0.85}, select={"similarity_kept": 0.9}) == []
    assert in_round(bootstrap={"similarity_kept": None}, select={"margin_length_correlation": None}) == []


def test_a_round_that_wants_no_generated_pairs_is_not_short_of_them() -> None:
    entry = replace(ROUND, bootstrap=None, compose=ComposeFigures(4, 0, 0.0, 0.0))
    assert run_warnings(RunFigures("run", "dpo", rounds=(entry,)), {}) == ()


def trained(**rounds: list[dict[str, Any]]) -> list[RunWarning]:
    training = {name.replace("_", " "): rows for name, rows in rounds.items()}
    return [*run_warnings(RunFigures("run", "dpo"), training)]


def line(logp: float | None, prefix: str = "eval_", length: float | None = 10.0, **more: float) -> dict[str, Any]:
    return {f"{prefix}logps/chosen": logp, f"{prefix}lengths/chosen": length} | more


def logged(accuracy: float, margin: float) -> dict[str, Any]:
    return {"rewards/accuracies": accuracy, "rewards/margins": margin}


def test_saturated_pairs_teach_nothing() -> None:
    rows = [logged(0.7, 1.0), logged(0.99, 2.5)]
    (warning,) = trained(round_1=rows, baseline=rows)
    assert (warning.kind, warning.where, warning.value) == ("saturated", "round 1", 0.99)
    assert trained(round_1=rows[::-1]) == []
    # 0.98, 1.0: their mean, where the tables have the last line.
    lines = [logged(value, 2.2) for value in (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.981, 0.999)]
    (warning,) = trained(round_1=lines)
    assert "In the mean of the last quarter of round 1's logged steps, 99.0% of the training pairs" in warning.text
    assert warning.text.endswith("are ranked right, by a reward margin of 2.2.")


def test_pairs_that_are_hardly_ranked_right_are_not_saturated() -> None:
    """A small model that has learned almost nothing ranks all pairs right by a margin of .04, of loss .67."""
    assert trained(round_1=[logged(1.0, 0.04)] * 8) == []
    assert trained(round_1=[{"rewards/accuracies": 1.0}] * 8) == []


def test_the_fall_of_the_chosen_is_counted_from_the_first_round() -> None:
    """-20, -19.4, -18.5 nats over 10 tokens: 0.06 nats a token within each round, 0.15 in all: 1 - exp(-0.15) = 14%."""
    first, second = [line(-18.5), line(-19.4)], [line(-19.4), line(-20.0)]
    assert trained(round_1=first) == []
    (warning,) = trained(round_1=first, round_2=second)
    assert (warning.kind, warning.where) == ("chosen_logp", "round 2")
    assert warning.value == pytest.approx(0.15)
    assert "held-out pairs' chosen answers is 14% less likely" in warning.text


def test_held_out_pairs_are_the_measure_where_there_are_any() -> None:
    rows = [line(-10.0, "eval_"), line(-30.0), line(-15.0, "eval_")]
    (warning,) = trained(round_1=rows)
    assert warning.value == pytest.approx(0.5)
    assert "held-out" in warning.text
    # A line that is not finite is null in the file.
    assert trained(round_1=[line(None), line(-10.0), line(-10.0, length=None), line(-10.5)]) == []


@pytest.mark.parametrize("kind", ADVICE)
def test_advice_names_keys_that_there_are(kind: str) -> None:
    named = set(re.findall(r"\b[a-z_]+\.[a-z_]+\b", ADVICE[kind])) | set(re.findall(r"\b(rounds): ", ADVICE[kind]))
    assert named, "advice without a key to turn"
    assert named <= set(all_keys(RunConfig))


def generated(*margins: float | None) -> RunFigures:
    """Rounds 2, 3, ... whose generated pairs have these mean margins."""
    made = [replace(ROUND, index=at, bootstrap=replace(ROUND.bootstrap, margin_mean=margin))  # pyright: ignore
            for at, margin in enumerate(margins, start=2)]  # fmt: skip
    return RunFigures("run", "dpo", rounds=(RoundFigures(1), *made))


def test_margins_of_generated_pairs_are_compared_with_the_first() -> None:
    assert run_warnings(generated(1.5, 2.9, 3.0), {}) == ()
    # A round in which no prompt gave a pair has no margin.
    (warning,) = run_warnings(generated(None, 1.5, 3.3, 3.6), {})
    assert (warning.kind, warning.where, warning.limit) == ("generated_margins", "round 5", 2.0)
    assert warning.value == pytest.approx(2.4)
    assert warning.text == (
        "The margins of round 5's generated pairs are 2.4 times those of the first generated pairs: 3.60 nats. Also in "
        "round 4."
    )


def test_the_warnings_of_a_round_are_of_that_round_and_of_the_kinds_asked_for() -> None:
    rounds = [{"repetition": 0.35, "length": 30.0}, {"repetition": 0.1, "length": 32.0}]
    policies = [EvaluatedPolicy("initial", START)]
    policies += [
        EvaluatedPolicy(f"round-{at}", replace(START, name=f"round {at}", **change))
        for at, change in enumerate(rounds, 1)
    ]
    figures = RunFigures("run", "dpo", policies=tuple(policies))
    assert set(round_warnings(figures, {}, 1, ["repetition", "length"])) == {"repetition", "length"}
    assert set(round_warnings(figures, {}, 2, ["repetition", "length"])) == {"length"}
    assert round_warnings(figures, {}, 2, ["repetition"]) == {}
    assert round_warnings(figures, {}, 2, ["length"])["length"].startswith("Answers of round 2 are 1.6 times as long")


def test_every_warning_of_a_round_can_stop_a_run() -> None:
    """The baseline is measured after the rounds, and ``overfit`` is about SFT."""
    assert set(get_args(StopWarning)) == {rule.kind for rule in RULES} - {"baseline", "overfit"}

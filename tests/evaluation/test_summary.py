"""The figures of a policy: each from its own input, and unchanged through JSON."""

import json
import math

import pytest

from seralign.errors import ModelError
from seralign.evaluation.summary import summarise
from seralign.intervals import Interval
from seralign.runs.figures import EvaluateFigures
from seralign.runs.typed import from_json, to_json

FULL = summarise(
    "round 2",
    responses=[[5, 6, 3], [5, 6, 5, 6, 5, 6, 5], [3]],
    finished=[True, False, True],
    scores=[1.0, 0.0, 0.5],
    win_rates={"initial": Interval(0.5, 0.1, 0.9, 3)},
    log_ratios=[1.0, 3.0, 2.0],
    margins=[2.0, -1.0, 0.0, 3.0],
    length_differences=[2, -1, 0, 3],
)


def test_figures_by_hand() -> None:
    """Bigrams 56 63 | 56 65 56 65 56 65 | none: three different of eight; only the second repeats a 4-gram (5656)."""
    assert (FULL.name, FULL.n) == ("round 2", 3)
    assert FULL.score is not None
    assert FULL.score.mean == pytest.approx(0.5)
    assert FULL.win_rates == {"initial": Interval(0.5, 0.1, 0.9, 3)}
    assert FULL.kl is not None
    # 2 -+ t(.975, 2) / sqrt(3)
    assert (FULL.kl.mean, FULL.kl.low, FULL.kl.high) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-6)
    assert FULL.length == pytest.approx(11 / 3)
    assert FULL.distinct_2 == 3 / 8
    assert FULL.repetition == pytest.approx(1 / 3)
    assert FULL.unfinished == pytest.approx(1 / 3)
    assert FULL.heldout_accuracy is not None
    assert (FULL.heldout_accuracy.mean, FULL.heldout_accuracy.n) == ((1 + 0 + 0.5 + 1) / 4, 4)
    assert FULL.heldout_margin == 1.0
    assert FULL.margin_length_correlation == pytest.approx(1.0)


def test_what_is_not_given_is_none() -> None:
    assert summarise("p", [], []) == EvaluateFigures(name="p")
    only_margins = summarise("p", [], [], margins=[1.0, -1.0], length_differences=[4, 4])
    assert only_margins.heldout_accuracy is not None
    assert only_margins.heldout_accuracy.mean == 0.5
    assert only_margins == EvaluateFigures(name="p", heldout_accuracy=only_margins.heldout_accuracy, heldout_margin=0.0)
    one = summarise("p", [[1, 2]], [True], scores=[2.0], win_rates={})
    assert one == EvaluateFigures(
        name="p", n=1, score=Interval(2.0, None, None, 1), length=2.0, distinct_2=1.0, repetition=0.0, unfinished=0.0
    )


def test_pairs_of_one_prompt_say_less_than_as_many_of_several() -> None:
    """Six of eight right: Wilson's interval of 6 / 8 is .409 to .929; of one prompt alone that of .75 of 1."""
    margins = [1.0] * 6 + [-1.0] * 2
    apart = summarise("p", [], [], margins=margins).heldout_accuracy
    together = summarise("p", [], [], margins=margins, prompt_ids=["a"] * 8).heldout_accuracy
    assert apart is not None
    assert together is not None
    assert (apart.low, apart.high) == pytest.approx((0.409275, 0.928521), abs=1e-6)
    assert (together.mean, together.n) == (0.75, 8)
    # c = 3.841459: (1.5 + c -+ sqrt(c (.75 + c))) / (2 (1 + c))
    assert (together.low, together.high) == pytest.approx((0.117910, 0.985365), abs=1e-6)


@pytest.mark.parametrize("figures", [FULL, EvaluateFigures("p"), summarise("q", [[1]], [False], scores=[1.0])])
def test_json_there_and_back(figures: EvaluateFigures) -> None:
    text = json.dumps(to_json(figures), allow_nan=False)
    assert from_json(EvaluateFigures, json.loads(text)) == figures


def test_divergence_is_told() -> None:
    with pytest.raises(ModelError, match=r"policy 'round 3' has a log-ratio that is not finite.*learning_rate"):
        summarise("round 3", [[1]], [True], log_ratios=[math.nan])
    with pytest.raises(ModelError, match="held-out margin that is not finite"):
        summarise("round 3", [[1]], [True], margins=[math.inf])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 for 1"):
        summarise("p", [[1]], [])
    with pytest.raises(ValueError, match=r"score\.mean of policy 'p' must be finite, got nan"):
        EvaluateFigures("p", score=Interval(math.nan, None, None, 1))
    with pytest.raises(ValueError, match=r"win_rates\.q\.low of policy 'p' must be finite, got -inf"):
        EvaluateFigures("p", win_rates={"q": Interval(0.5, -math.inf, 1.0, 1)})

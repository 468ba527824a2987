"""Panels of judges, their agreement by hand, and judges that are functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from seralign.errors import ConfigError
from seralign.evaluation.agreement import agreement
from seralign.evaluation.judges import Comparison, Verdict, make_judge
from seralign.evaluation.win_rates import decide
from seralign.records import Prompt
from seralign.runs.results import Results
from seralign.servers.usage import Usage

MINE = """
from seralign.evaluation.judges import Verdict
from seralign.servers.usage import Usage


class Says:
    asked = 0

    def __init__(self, options, key, scorer):
        self._says = options["says"]
        self.identity = f"says {self._says}"

    def judge(self, comparisons):
        for number, comparison in enumerate(comparisons):
            Says.asked += 1
            says = self._says[int(comparison.prompt.prompt_id)]
            if says == "error":
                yield comparison, Verdict(None, error="timeout")
            elif says is None:
                yield comparison, Verdict(None, unreadable="hm", usage=Usage(2, 10, 1))
            else:
                orders = (min(1.0, says + 0.1), max(0.0, says - 0.1))
                yield comparison, Verdict(says, orders=orders, explanation=str(says), usage=Usage(2, 10, 1))


def longer(prompts, firsts, seconds):
    return [0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b))) for a, b in zip(firsts, seconds)]


def unsure(prompts, firsts, seconds):
    return [float("nan")] + [0.25] * (len(prompts) - 1)


def wrong(prompts, firsts, seconds):
    return [1.5] * len(prompts)


def short(prompts, firsts, seconds):
    return [1.0]


def broken(prompts, firsts, seconds):
    raise KeyError("x")
"""
COMPARISONS = [Comparison(Prompt(str(at), f"q{at}", (at,)), "long" * (at % 2 + 1), "shorter") for at in range(4)]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "results.sqlite")) as found:
        yield found


def panel(mine: str, results: Results | None, **says: Any) -> Any:
    judges = {name: {"judge": f"{mine}:Says", "judge_options": {"says": list(one)}} for name, one in says.items()}
    return make_judge("panel", {"judges": judges}, None, results=results)


def test_a_panel_is_the_mean_of_its_judges(mine: str, results: Results) -> None:
    """0: both have a verdict. 1: one cannot be read. 2: none can. 3: a request failed."""
    judge = panel(mine, results, a=[1.0, None, None, 1.0], b=[0.5, 0.2, None, "error"])
    verdicts = decide(judge, COMPARISONS, results, "x against y")
    assert verdicts[0] == Verdict(
        0.75, explanation="a: 1.0\n\nb: 0.5", orders=(pytest.approx(0.8), pytest.approx(0.65)),  # pyright: ignore
        members=(1.0, 0.5), usage=Usage(4, 20, 2),
    )  # fmt: skip
    assert (verdicts[1].first_better, verdicts[1].members) == (0.2, (None, 0.2))
    assert verdicts[1].orders == (pytest.approx(0.3), pytest.approx(0.1))
    assert (verdicts[2].first_better, verdicts[2].unreadable) == (None, "a: hm; b: hm")
    assert verdicts[3] == Verdict(None, error="b: timeout")
    assert judge.names == ("a", "b")


def test_a_judge_that_joins_a_panel_is_the_only_one_asked(mine: str, results: Results) -> None:
    first, second, third = [1.0] * 4, [0.0] * 4, [0.5, 1.0, 0.0, 0.5]
    decide(panel(mine, results, a=first, b=second), COMPARISONS, results, "x against y")
    import importlib

    says = importlib.import_module(mine).Says
    assert says.asked == 8
    verdicts = decide(panel(mine, results, a=first, b=second, c=third), COMPARISONS, results, "x against y")
    assert says.asked == 12
    assert [verdict.first_better for verdict in verdicts] == [0.5, pytest.approx(2 / 3), pytest.approx(1 / 3), 0.5]
    again = decide(panel(mine, results, a=first, b=second, c=third), COMPARISONS, results, "x", replay=True)
    assert again == verdicts


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "judges is missing"),
        ({"judges": {"a": {"judge": "scorer"}}}, "judges must have at least two judges"),
        ({"judges": {"a": {}, "b": {}}}, r"judges\.a\.judge is missing"),
        ({"judges": {"a": {"judge": "gpt"}, "b": {"judge": "gpt"}}}, r"judges\.a\.judge must be one of"),
        ({"judges": {"a": {"judge": "server"}, "b": {"judge": "gpt"}}}, r"judges\.a\.judge_options\.url is missing"),
    ],
)
def test_a_wrong_panel_names_the_key(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^evaluation\.judge_options\.{says}"):
        make_judge("panel", options, None)


def test_agreement_by_hand() -> None:
    """Two judges on four comparisons: win-win, loss-loss, win-loss, tie-tie.

    They agree on 3 of 4. Judge a says win 2, tie 1, loss 1 times; b says win 1, tie 1, loss 2 times. By chance they
    agree on (2 x 1 + 1 x 1 + 1 x 2) / 16 = 5/16: kappa = (3/4 - 5/16) / (11/16) = 7/11. Krippendorff's alpha: 8
    verdicts of 3 wins, 3 losses and 2 ties. Observed disagreement 2/8; expected (64 - 9 - 9 - 4) / (8 x 7) = 42/56:
    alpha = 1 - (1/4) / (3/4) = 2/3.
    """
    found = agreement(("a", "b"), [(1.0, 0.9), (0.0, 0.1), (0.8, 0.2), (0.5, 0.5)])
    assert found.comparisons == 4
    assert found.alpha == pytest.approx(2 / 3)
    (pair,) = found.pairs
    assert (pair.judges, pair.comparisons, pair.share) == (("a", "b"), 4, 0.75)
    assert pair.kappa == pytest.approx(7 / 11)


def test_agreement_of_probabilities_by_hand() -> None:
    """Verdicts (1, 0) and (0.5, 0.5). Squared differences: 1 observed in 2 of 4 ordered pairs, so D_o = (1 + 1) / 4.

    Expected over the 12 ordered pairs of 1, 0, 0.5, 0.5: 2 (1 + 4 x 0.25) / 12 = 1/3. alpha = 1 - 0.5 x 3 = -0.5.
    """
    found = agreement(("a", "b"), [(1.0, 0.0), (0.5, 0.5)])
    assert found.alpha_probabilities == pytest.approx(-0.5)


def test_agreement_of_three_judges_with_missing_verdicts() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0.0, 0.5, 1.0], 300)
    rows = [[t if rng.random() < 0.7 else rng.choice([0.0, 0.5, 1.0]) for _ in range(3)] for t in truth]
    found = agreement(("a", "b", "c"), rows)
    for pair, (one, other) in zip(found.pairs, ((0, 1), (0, 2), (1, 2)), strict=True):
        labels = [[int(2 * row[at]) for row in rows] for at in (one, other)]
        assert pair.kappa == pytest.approx(cohen_kappa_score(*labels))
    missing = [(row[0], None, row[2]) for row in rows] + [(1.0, None, None)] * 5
    partly = agreement(("a", "b", "c"), missing)
    assert partly.comparisons == 300
    assert partly.alpha == pytest.approx(agreement(("a", "c"), [(row[0], row[2]) for row in rows]).alpha)
    assert [pair.comparisons for pair in partly.pairs] == [0, 300, 0]
    assert (partly.pairs[0].share, partly.pairs[0].kappa) == (None, None)


def test_agreement_is_undefined_where_all_say_the_same() -> None:
    same = agreement(("a", "b"), [(1.0, 1.0)] * 3)
    assert (same.alpha, same.alpha_probabilities, same.pairs[0].kappa, same.pairs[0].share) == (None, None, None, 1.0)
    assert agreement(("a", "b"), []).alpha is None
    with pytest.raises(ValueError, match="every comparison must have 2 verdicts, those of a, b"):
        agreement(("a", "b"), [(1.0, 1.0, 1.0)])


def test_a_function_is_a_judge(mine: str, results: Results) -> None:
    """``long`` against ``shorter`` loses, ``longlong`` wins."""
    judge = make_judge("function", {"function": f"{mine}:longer"}, None)
    verdicts = decide(judge, COMPARISONS, results, "x against y")
    assert [verdict.first_better for verdict in verdicts] == [0.0, 1.0, 0.0, 1.0]
    unsure = make_judge("function", {"function": f"{mine}:unsure"}, None)
    found = decide(unsure, COMPARISONS, results, "x against y")
    assert [verdict.first_better for verdict in found] == [None, 0.25, 0.25, 0.25]
    assert unsure.identity != judge.identity


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrong", r"must return numbers in \[0, 1\], got 1\.5"),
        ("short", r"must return one probability per comparison, with shape \(4,\), got \(1,\)"),
        ("broken", r"failed: KeyError: 'x'"),
    ],
)
def test_a_function_that_breaks_the_contract_is_refused(name: str, says: str, mine: str, results: Results) -> None:
    judge = make_judge("function", {"function": f"{mine}:{name}"}, None)
    with pytest.raises(ConfigError, match=rf"^evaluation\.judge_options\.function: {mine}:{name} {says}"):
        decide(judge, COMPARISONS, results, "x against y")
    with pytest.raises(ConfigError, match=r"^evaluation\.judge_options\.function: module .* has no function 'no'"):
        make_judge("function", {"function": f"{mine}:no"}, None)

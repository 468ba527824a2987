"""Judges: verdicts by content, win rates by hand, and what a judge of the user's own may not do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seralign.errors import ConfigError, StoreError
from seralign.evaluation.judges import Comparison, Verdict, make_judge
from seralign.evaluation.judges.checked import CheckedJudge
from seralign.evaluation.scorer import make_scorer
from seralign.evaluation.scores import TOGETHER, StoredScorer
from seralign.evaluation.win_rates import decide, win_rate
from seralign.intervals import outcomes, share_interval
from seralign.pipeline.evaluating import _VERDICTS
from seralign.records import Prompt
from seralign.runs.files import read_table, write_table
from seralign.runs.results import Results
from seralign.servers.usage import Usage

ANSWERS = [("aaa", "b"), ("a", "bbb"), ("aa", "bb"), ("aaaa", "b")]
COMPARISONS = [Comparison(Prompt(f"p{at}", f"prompt {at}", (at,)), *pair) for at, pair in enumerate(ANSWERS)]


class Length:
    """Scores by length; keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.die_at: int | None = None

    def __call__(self, prompts: list[str], responses: list[str]) -> list[float]:
        if len(self.calls) == self.die_at:
            raise KeyboardInterrupt
        self.calls.append(responses)
        return [float(len(response)) for response in responses]


def stored(function: Any, folder: Path) -> StoredScorer:
    return StoredScorer(make_scorer(function, "length", "evaluation.scorer"), Results(folder / "results.sqlite"))


def test_the_higher_score_wins_as_the_scores_alone_say(tmp_path: Path) -> None:
    """Lengths 3:1, 1:3, 2:2, 4:1: two wins, a loss and a tie, 2.5 / 4 = 0.625."""
    scorer = stored(Length(), tmp_path)
    with closing(scorer.results) as results:
        verdicts = decide(make_judge("scorer", {}, scorer), COMPARISONS, results, "a against b")
    assert [verdict.first_better for verdict in verdicts] == [1.0, 0.0, 0.5, 1.0]
    assert [verdict.scores for verdict in verdicts] == [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (4.0, 1.0)]
    rate = win_rate(verdicts)
    assert rate is not None
    assert (rate.mean, rate.n) == (0.625, 4)
    assert rate == share_interval(outcomes([3, 1, 2, 4], [1, 3, 2, 1]))
    assert win_rate([verdict.turned() for verdict in verdicts]) == share_interval(outcomes([1, 3, 2, 1], [3, 1, 2, 4]))


def test_no_verdict_counts_for_nothing() -> None:
    """(1 + 0.5 + 0.2) / 3: the fourth has no verdict."""
    rate = win_rate([Verdict(1.0), Verdict(0.5), Verdict(0.2), Verdict(None, error="timeout")])
    assert rate is not None
    assert (rate.mean, rate.n) == (pytest.approx(1.7 / 3), 3)
    assert win_rate([Verdict(None)]) is None
    assert Verdict(0.2, (1.0, 2.0), "why").turned() == Verdict(0.8, (2.0, 1.0), "why")
    assert Verdict(None, error="timeout").turned() == Verdict(None, error="timeout")


def test_a_scorer_is_asked_once_for_each_response_and_again_only_for_what_a_kill_took(tmp_path: Path) -> None:
    length = Length()
    scorer = stored(length, tmp_path)
    prompts = [f"p{at}" for at in range(2 * TOGETHER + 3)]
    responses = [f"r{at}" for at in range(len(prompts))]
    length.die_at = 2
    with pytest.raises(KeyboardInterrupt):
        scorer(prompts, responses)
    length.die_at = None
    scores = scorer([*prompts, "p0"], [*responses, "r0"])
    assert [len(call) for call in length.calls] == [TOGETHER, TOGETHER, 3]
    assert [response for call in length.calls for response in call] == responses
    assert np.array_equal(scores, [*map(len, responses), 2])
    scorer(["other"], ["r0"])
    assert length.calls[3:] == [["r0"]]
    assert scorer([], []).shape == (0,)


def test_another_source_is_another_scorer(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.sqlite")
    names = ("one", "two")
    for name, score in zip(names, (1.0, 2.0), strict=True):
        scorer = make_scorer(lambda prompts, responses, score=score: [score] * len(responses), name, "scorer")
        assert StoredScorer(scorer, results)(["p"], ["r"]).tolist() == [score]
    results.close()


class Mine:
    """Says a fixed verdict to each prompt, last to first; keeps what it was asked."""

    identity = "mine 1"

    def __init__(self, verdicts: dict[str, Verdict] | None = None) -> None:
        self.verdicts = verdicts or {}
        self.asked: list[str] = []
        self.die_after: int | None = None

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Any]:
        for number, comparison in enumerate(reversed(list(comparisons))):
            if number == self.die_after:
                raise ConnectionError("gone")
            self.asked.append(comparison.prompt.prompt_id)
            yield comparison, self.verdicts.get(comparison.prompt.prompt_id, Verdict(0.25, explanation="dull"))


def asked_of(judge: Any, folder: Path) -> list[Verdict]:
    with closing(Results(folder / "results.sqlite")) as results:
        return decide(CheckedJudge(judge, "evaluation.judge", "m:Mine"), COMPARISONS, results, "a against b")


def test_verdicts_come_in_order_and_a_judge_that_failed_is_asked_for_the_rest(tmp_path: Path) -> None:
    judge = Mine({"p0": Verdict(1.0, (3.0, 1.0)), "p3": Verdict(None)})
    judge.die_after = 2
    with pytest.raises(ConfigError, match=r"^evaluation\.judge: m:Mine failed: ConnectionError: gone \(test_judges"):
        asked_of(judge, tmp_path)
    judge.die_after = None
    dull = Verdict(0.25, explanation="dull")
    assert asked_of(judge, tmp_path) == [Verdict(1.0, (3.0, 1.0)), dull, dull, Verdict(None)]
    assert asked_of(judge, tmp_path) == [Verdict(1.0, (3.0, 1.0)), dull, dull, Verdict(None)]
    assert judge.asked == ["p3", "p2", "p1", "p0"]


def test_numbers_of_numpy_are_taken_as_numbers(tmp_path: Path) -> None:
    given = Verdict(np.float32(0.5), (np.float64(1), np.int64(2)))  # pyright: ignore[reportArgumentType]
    for found in asked_of(Mine({f"p{at}": given for at in range(4)}), tmp_path):
        assert found == Verdict(0.5, (1.0, 2.0))
        assert {type(found.first_better), *map(type, found.scores or ())} == {float}


def test_a_verdict_keeps_both_orders_and_what_it_took_in_the_store_and_in_the_table(tmp_path: Path) -> None:
    full = Verdict(0.5, (1.0, 2.0), "why", None, (0.75, 0.25), None, (1.0, None, 0.0), Usage(2, 30, 4, 1))
    unread = Verdict(None, unreadable="hm", usage=Usage(1, 1, 1))
    judge = Mine({"p0": full, "p1": unread})
    for _ in range(2):
        assert asked_of(judge, tmp_path)[:2] == [full, unread]
    assert judge.asked == ["p3", "p2", "p1", "p0"]
    for verdict in (full, unread, Verdict(None, error="timeout")):
        assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
        assert verdict.turned().turned() == verdict
    assert Verdict(0.4, (1.0, 2.0), orders=(0.7, 0.1), members=(0.4, None)).turned() == Verdict(
        0.6, (2.0, 1.0), orders=(0.9, pytest.approx(0.3)), members=(0.6, None)
    )
    rows = [{"prompt_id": "p", "rival": "r", **verdict.to_json()} for verdict in (full, unread)]
    write_table(tmp_path / "v.parquet", {field.name: pa.array([row[field.name] for row in rows], field.type)
                                         for field in _VERDICTS})  # fmt: skip
    back = read_table(tmp_path / "v.parquet").drop_columns(["prompt_id", "rival"]).to_pylist()
    assert [Verdict.from_json(row) for row in back] == [full, unread]


def test_a_replay_asks_nobody_and_counts_what_is_missing(tmp_path: Path) -> None:
    judge = Mine()
    judge.die_after = 3
    with pytest.raises(ConfigError):
        asked_of(judge, tmp_path)
    judge.asked.clear()
    with closing(Results(tmp_path / "results.sqlite")) as results:
        checked = CheckedJudge(judge, "evaluation.judge", "m:Mine")
        says = r"results\.sqlite: no stored verdict on 1 of 4 comparisons \(a against b\) by this judge \(m:Mine, m"
        with pytest.raises(StoreError, match=says):
            decide(checked, COMPARISONS, results, "a against b", replay=True)
        assert (
            decide(checked, COMPARISONS[1:], results, "a against b", replay=True)
            == [Verdict(0.25, explanation="dull")] * 3
        )
    assert judge.asked == []


def test_failed_comparisons_are_told_and_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = Mine({"p1": Verdict(None, error="timeout")})
    assert [verdict.first_better for verdict in asked_of(judge, tmp_path)] == [0.25, None, 0.25, 0.25]
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "warning: evaluation.judge: no verdict on 1 of 4 comparisons (a against b); 1: timeout; they are ignored"
        in told
    )
    judge.verdicts = {}
    assert [verdict.first_better for verdict in asked_of(judge, tmp_path)] == [0.25] * 4
    assert judge.asked == ["p3", "p2", "p1", "p0", "p1"]


def test_a_judge_that_decides_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    judge = Mine({f"p{at}": Verdict(None, error="no such model") for at in range(4)})
    says = r"^evaluation\.judge: no verdict on 4 of 4 comparisons \(a against b\); 4: no such model$"
    with pytest.raises(ConfigError, match=says):
        asked_of(judge, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda c, v: [(c, Verdict(1.5))], r"first_better must be in \[0, 1\] or None, got 1\.5"),
        (lambda c, v: [(c, Verdict(float("nan")))], r"first_better must be in \[0, 1\] or None, got nan"),
        (lambda c, v: [(c, Verdict(1.0, error="x"))], r"a verdict with an error \(x\) must have first_better None"),
        (lambda c, v: [(c, Verdict(1.0, (1.0, float("inf"))))], "scores must be two finite numbers"),
        (lambda c, v: [(c, Verdict(1.0, (1.0,)))], "scores must be two finite numbers"),
        (lambda c, v: [(c, Verdict(1.0, (1.0, 2.0, 3.0)))], "scores must be two finite numbers"),
        (lambda c, v: [(c, Verdict(1.0, ("a", "b")))], "scores must be two finite numbers"),
        (lambda c, v: [(c, Verdict(1.0, (1e308, -1e308)))], "scores must be two finite numbers of at most 1e"),
        (lambda c, v: [(c, Verdict(1.0, explanation=123))], "explanation must be text that UTF-8 can hold, or None"),
        (lambda c, v: [(c, Verdict(1.0, explanation="\ud800"))], "explanation must be text that UTF-8 can hold"),
        (lambda c, v: [(c, Verdict(None, error=ValueError("x")))], "error must be text that UTF-8 can hold, or None"),
        (lambda c, v: [(c, Verdict("first"))], "first_better must be in .0, 1. or None, got 'first'"),
        (
            lambda c, v: [(c, Verdict(1.0, unreadable="x"))],
            r"a verdict with an error \(x\) must have first_better None",
        ),
        (lambda c, v: [(c, Verdict(1.0, orders=(1.0, 1.5)))], r"orders must be two numbers in \[0, 1\], got"),
        (lambda c, v: [(c, Verdict(1.0, members=(None, "x")))], r"members must be numbers in \[0, 1\] or None, got"),
        (lambda c, v: [(c, Verdict(1.0, usage=3))], "usage must be a Usage, got 3"),
        (lambda c, v: [(c, 1.0)], "must give a Verdict, got float"),
        (lambda c, v: [(c, v), (c, v)], "decided twice"),
        (lambda c, v: [], "4 comparisons have no answer"),
        (lambda c, v: [1], "failed: TypeError"),
    ],
)
def test_verdicts_that_break_the_contract_are_refused(wrong: Any, says: str, tmp_path: Path) -> None:
    class Wrong(Mine):
        def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Any]:
            for comparison, verdict in super().judge(comparisons):
                yield from wrong(comparison, verdict)

    with pytest.raises(ConfigError, match=rf"^evaluation\.judge: m:Mine.*{says}"):
        asked_of(Wrong(), tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "gpt",
            {},
            r"evaluation\.judge must be one of scorer, server, .* panel, or module:class of your own, got 'gpt'",
        ),
        ("no_such_module:X", {}, r"evaluation\.judge: cannot import 'no_such_module'"),
        ("scorer", {}, r"evaluation\.judge: the judge scorer needs evaluation\.scorer, which is not set"),
        ("builtins:dict", {}, r"evaluation\.judge: builtins:dict failed: TypeError"),
    ],
)
def test_a_judge_that_cannot_be_is_refused_at_the_start(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        make_judge(name, options, None)


def test_options_and_identity_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^evaluation\.judge_options: judge scorer has none, got url$"):
        make_judge("scorer", {"url": 1}, stored(Length(), tmp_path))
    judge: Any = Mine()
    judge.identity = 3
    with pytest.raises(ConfigError, match=r"^evaluation\.judge: m:Mine: identity must be of type str, got 3$"):
        CheckedJudge(judge, "evaluation.judge", "m:Mine")

"""``seralign lab judge``: what it prints and writes, any judge in place of the simulated one, and wrong input."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from seralign.cli.main import main
from seralign.evaluation.judges import Comparison, Verdict


class LongerJudge:
    """Prefers the longer response, whatever is asked; stands in a module, so that it can be named."""

    identity = "longer"
    asked = 0

    def __init__(self, options: dict[str, object], key: str, scorer: object) -> None:
        self.options = options

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for comparison in comparisons:
            LongerJudge.asked += 1
            yield comparison, Verdict(float(len(comparison.first) > len(comparison.second)))


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["lab", "judge", "--json", "--prompts", "40", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_biased_judge(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "judge.md"
    found = figures(capsys, "--position", "1.5", "--gold", "1", "--page", str(page))
    assert found["calibration"]["comparisons"] == 160
    assert found["calibration"]["position_bias"]["low"] > 0.05
    assert [rate["policy"] for rate in found["rates"]] == ["better", "worse", "longer", "shorter"]
    assert all(rate["shown_first"]["mean"] > rate["shown_second"]["mean"] for rate in found["rates"])
    text = page.read_text()
    assert "| position bias: what the first place gains |" in text
    assert "![Win rates](judge.svg)" in text
    assert "better, both orders" in (tmp_path / "judge.svg").read_text()


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "judge", "--prompts", "10", "--world", "sums"]) == 0
    printed = capsys.readouterr().out
    assert "Accuracy by the difference in gold" in printed
    assert "length-controlled" in printed


def test_the_gold_reward_as_a_judge_makes_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "--judge", "scorer", "--world", "clauses")
    assert found["calibration"]["accuracy"]["mean"] == 1
    assert found["calibration"]["position_bias"] is None
    for rate in found["rates"]:
        assert rate["both"]["mean"] == rate["gold"]["mean"]


def test_any_judge_and_its_verdicts_are_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--judge", f"{__name__}:LongerJudge", "--verdicts", str(tmp_path / "verdicts.sqlite")]
    LongerJudge.asked = 0
    found = figures(capsys, *options)
    assert LongerJudge.asked > 150
    rates = {rate["policy"]: rate["both"]["mean"] for rate in found["rates"]}
    assert rates["longer"] > 0.8 > 0.2 > rates["shorter"]
    assert found["calibration"]["length_effect"]["low"] > 2
    LongerJudge.asked = 0
    assert figures(capsys, *options) == found
    assert LongerJudge.asked == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "moon"], "--world must be one of clauses, elaborations, sums, got 'moon'"),
        (["--prompts", "1"], "--prompts must be at least 2, got 1"),
        (["--judge", "moon"], "--judge must be one of"),
        (["--judge", "scorer", "--judge_options.x", "1"], "--judge_options: judge scorer has none, got x"),
        (["--judge_options.x", "1"], "--judge_options.x: unknown option"),
        (["--spin", "1"], "--spin: unknown option"),
        (["--page", "folder"], "--page folder: give the name of a Markdown file, e.g. folder.md"),
        (["--position", "nan"], "--position must be a finite number, got nan"),
    ],
)
def test_wrong_input(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["lab", "judge", *arguments]) == 2
    assert message in capsys.readouterr().err

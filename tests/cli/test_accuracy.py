"""``seralign accuracy``: numbers by hand, by category, no gain from the first place, models, and wrong input."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from seralign.cli.main import main
from seralign.data.table import read_table
from seralign.evaluation.judges import Comparison, Verdict, make_judge
from seralign.evaluation.judges.scoring import responses_of, tokens_of
from seralign.intervals import share_interval
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model
from seralign.policy.saved import saved_policy
from seralign.records import Prompt

ROWS = [
    {"prompt": "a", "chosen": "long one", "rejected": "one", "subset": "easy"},
    {"prompt": "b", "chosen": "two", "rejected": "long two", "subset": "easy"},
    {"prompt": "c", "chosen": "same", "rejected": "four", "subset": "hard"},
    {"prompt": "c", "chosen": "y", "rejected": "xx", "p": 0.2, "subset": "hard"},
    {"prompt": "d", "chosen": "x", "rejected": "y", "p": 0.5, "subset": "hard"},
    {"prompt": "e", "chosen": "longest", "rejected": "no", "subset": None},
]


def longer(prompts: list[str], responses: list[str]) -> list[float]:
    return [float(len(response)) for response in responses]


class Both:
    """Asked in both orders: always the first place, except that it knows prompt a."""

    identity = "both"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None:
        pass

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for one in comparisons:
            orders = ((1.0, 0.0), (1.0, 1.0))[one.prompt.text == "a"]
            yield one, Verdict(sum(orders) / 2, orders=orders)


class First:
    """Prefers what is shown first; has nothing to say about prompt 7."""

    identity = "first"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None:
        pass

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for comparison in comparisons:
            yield comparison, Verdict(None if comparison.prompt.text == "7" else 1.0)


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["accuracy", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Right, wrong, tie, right after its label turned it round, a tie that is no pair, and right without category."""
    rows = [row | {"p": row.get("p", 1.0)} for row in ROWS]
    options = [write(tmp_path, rows), "--judge", "scorer", "--scorer", f"{__name__}:longer", "--by", "subset"]
    found = figures(capsys, *options)
    assert (found["pairs"], found["unread"], found["dropped"]) == (5, 0, {"tie": 1})
    expected = share_interval([1, 0, 0.5, 1, 1], list("abcce"))
    assert expected is not None
    assert found["accuracy"] == expected.to_dict()
    assert {name: rate["mean"] for name, rate in found["by"].items()} == {"easy": 0.5, "hard": 0.75, "none": 1}
    assert found["mean"] == 0.75
    assert main(["accuracy", *options]) == 0
    printed = capsys.readouterr().out
    assert "mean of the categories" in printed
    assert "rows that are no pair: 1 tie" in printed


def test_the_first_place_gains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": str(number), "chosen": f"yes {number}", "rejected": f"no {number}"} for number in range(200)]
    found = figures(capsys, write(tmp_path, rows), "--judge", f"{__name__}:First")
    assert found["unread"] == 1
    assert 0.4 < found["accuracy"]["mean"] < 0.6
    assert (found["by"], found["mean"]) == ({}, None)


def test_the_place_is_measured_where_both_orders_are_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: one pair of four without bias, the others with the whole of it; both orders agree on that one."""
    rows = [{"prompt": name, "chosen": f"yes {name}", "rejected": f"no {name}"} for name in "abcd"]
    found = figures(capsys, write(tmp_path, rows), "--judge", f"{__name__}:Both")
    assert found["position_bias"]["mean"] == pytest.approx(3 / 4 * 0.5)
    assert found["self_agreement"]["mean"] == pytest.approx(1 / 4)
    assert main(["accuracy", write(tmp_path, rows), "--judge", f"{__name__}:Both"]) == 0
    assert "position bias +37.5 " in capsys.readouterr().out


def test_which_is_first_does_not_depend_on_the_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": str(number), "chosen": f"yes {number}", "rejected": f"no {number}"} for number in range(50)]
    turned = [{"prompt": row["prompt"], "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    one, other = (
        figures(capsys, write(tmp_path, given), "--judge", f"{__name__}:First")["accuracy"]["mean"]
        for given in (rows, turned)
    )
    assert one == pytest.approx(1 - other)


def test_the_implicit_reward_of_a_run(lora_run: Path, chat_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Conversations; with policy and reference exchanged, each pair is ranked the other way round."""
    pairs = str(lora_run.parent / "pairs.jsonl")

    def accuracy(policy: Path, reference: Path) -> dict[str, Any]:
        models = ["--judge_options.policy", str(policy), "--judge_options.reference", str(reference)]
        return figures(capsys, pairs, "--judge", "implicit", *models)

    found = accuracy(lora_run / "result", chat_model)
    assert found["pairs"] == 6
    assert found["accuracy"]["mean"] + accuracy(chat_model, lora_run / "result")["accuracy"]["mean"] == 1


def test_a_run_brings_its_reference_beta_and_system_message(
    lora_run: Path, chat_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rewards are beta times the log-ratio of the tokens that the run was trained on."""
    judge = make_judge("implicit", {"policy": str(lora_run)}, None)
    pairs: Any = read_table(lora_run / "data" / "pairs.arrow")
    asked = [Comparison(Prompt(str(at), f"Say {at}.", ()), str(at), "No.") for at in range(6)]
    saved = saved_policy(str(lora_run))
    models = [load_model(source, saved.loading, "float32") for source in (saved.source, PolicySource(str(chat_model)))]
    trained = {(tuple(row["prompt_ids"]), tuple(ids)) for row in pairs for ids in row["response_ids"]}
    of_judge = tokens_of(judge._policy, responses_of(asked))  # pyright: ignore[reportAttributeAccessIssue]
    assert len(trained) > 4
    assert trained < {(tuple(prompt), tuple(response)) for prompt, response in of_judge.values()}, "one is held out"
    for one, verdict in judge.judge(asked):
        assert verdict.scores is not None
        for text, score in zip((one.first, one.second), verdict.scores, strict=True):
            with torch.no_grad():
                own, against = (float(tiny.reference_logp(model, *of_judge[one.prompt, text])) for model in models)
            assert score == pytest.approx(0.1 * (own - against), abs=1e-4)
            assert abs(score) > 1e-3
    start = make_judge("implicit", {"policy": str(lora_run), "round": "start"}, None)
    assert {verdict.scores for _, verdict in start.judge(asked)} == {(0.0, 0.0)}, "the policy is its own reference"
    assert figures(capsys, str(lora_run.parent / "pairs.jsonl"), "--judge", "implicit", "--judge_options.policy",
                   str(lora_run))["pairs"] == 6  # fmt: skip


def test_kept_verdicts_are_not_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, store = write(tmp_path, ROWS[:2]), str(tmp_path / "verdicts.sqlite")
    options = [pairs, "--judge", f"{__name__}:First", "--verdicts", store]
    found = figures(capsys, *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(First, "judge", lambda *_: pytest.fail("asked again"))
        assert figures(capsys, *options) == found


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS[:2], ["--by", "moon"], "has no column 'moon' (--by); it has prompt, chosen, rejected, subset"),
        ([ROWS[4]], [], "has no pairs: 1 tie"),
        (ROWS[:2], ["--judge", "moon"], "--judge must be one of"),
        (ROWS[:2], ["--judge_option.x", "1"], "--judge_option.x: unknown option"),
        (ROWS[:2], ["--judge", "scorer"], "--judge: the judge scorer needs"),
        ([{"prompt": "a", "chosen": 3, "rejected": "b"}], [], "row 1"),
    ],
)
def test_wrong_input(
    rows: list[dict[str, Any]],
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["accuracy", write(tmp_path, rows), "--judge", f"{__name__}:First", *options]) == 2
    assert message in capsys.readouterr().err

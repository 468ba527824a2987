"""``seralign query``: the queue of a file of candidates, its labels, and the preferences that are made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reward_models import save_reward_model
from text_model import CHAT_TEMPLATE

from seralign.cli.main import main
from seralign.errors import AwaitingLabels, ConfigError, DataError, StoreError
from seralign.preferences.query_config import query_config
from seralign.preferences.querying import query
from seralign.rewards.reward_model import open_reward_model

BIRDS = ["A crow.", "A red kite.", "A crow.", "An owl in the night.", " "]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(save_reward_model(folder / str(seed), CHAT_TEMPLATE, seed)) for seed in (0, 1)]


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A configuration of six prompts with responses as ``seralign sample`` writes them; one has a single answer."""
    rows = [
        {"prompt": f"Name bird {number}.", "system": "Be brief.", "responses": [{"text": one} for one in BIRDS]}
        for number in range(5)
    ]
    rows.append({"prompt": "Name a tree.", "responses": [{"text": "An oak."}, {"text": "An oak."}]})
    _write(tmp_path / "candidates.jsonl", rows)

    def values(**more: Any) -> dict[str, Any]:
        data = {"path": str(tmp_path / "candidates.jsonl"), "responses": "responses", "text": "text"}
        ends = {"queue": str(tmp_path / "queue.jsonl"), "out": str(tmp_path / "pairs.jsonl")}
        return ends | {"data": data, "budget": 3, "strategy": "random"} | more

    return values


def test_labels_become_preferences(config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    values = query_config(config(budget=4))
    figures = query(values)
    assert (figures.asked, figures.pool, figures.out) == (4, 5, None)
    assert figures.left_out == {"prompts without two different responses": 1}
    asked = _lines(tmp_path / "queue.jsonl")
    assert len({row["prompt"] for row in asked}) == 4
    for row in asked:
        assert row["system"] == "Be brief."
        assert row["response_a"] != row["response_b"]
        assert {row["response_a"], row["response_b"]} < {*BIRDS}
        assert " " not in (row["response_a"], row["response_b"])
    with pytest.raises(AwaitingLabels, match="4 pairs to label"):
        query(values)
    _write(
        tmp_path / "queue.jsonl",
        [row | {"label": one} for row, one in zip(asked, ("a", 0.2, "tie", None), strict=True)],
    )
    with pytest.raises(AwaitingLabels, match=r"3 of 4 pairs have a label.* set allow_partial: true"):
        query(values)
    figures = query(query_config(config(budget=4, allow_partial=True)))
    assert (figures.pairs, figures.left_out["tie"], figures.left_out["without a label"]) == (2, 1, 1)
    made = _lines(tmp_path / "pairs.jsonl")
    assert [(row["chosen"], row["rejected"], row["p"]) for row in made] == [
        (asked[0]["response_a"], asked[0]["response_b"], 1.0),
        (asked[1]["response_b"], asked[1]["response_a"], 0.8),
    ]
    assert made[0]["system"] == "Be brief."
    assert made[0]["label_signal"] == "queue"
    assert "candidates.jsonl row " in made[0]["label_source"]
    assert json.loads(made[1]["label_values"])["queue"]["p_a"] == 0.2
    told = json.loads((tmp_path / "pairs.label.json").read_text(encoding="utf-8"))
    assert (told["asked"], told["configuration"]["strategy"]) == (4, "random")
    with pytest.raises(StoreError, match=r"pairs\.jsonl already exists"):
        query(values)


def test_the_reward_models_choose_responses_and_pairs(
    config: Callable[..., dict[str, Any]], models: list[str], tmp_path: Path
) -> None:
    query(query_config(config(strategy="disagreement", reward_models=models, budget=2)))
    told = json.loads((tmp_path / "queue.query.json").read_text(encoding="utf-8"))
    texts = ["A crow.", "A red kite.", "An owl in the night."]
    spreads = {}
    for number in range(5):
        prompt = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Name bird {number}."})
        each = np.array([open_reward_model(name, "m").score([prompt] * 3, texts) for name in models])
        best, worst = int(each.mean(0).argmax()), int(each.mean(0).argmin())
        spreads[f"Name bird {number}."] = (float((each[:, best] - each[:, worst]).std()), {texts[best], texts[worst]})
    wanted = sorted(spreads, key=lambda name: -spreads[name][0])[:2]
    assert [row["prompt"] for row in told["pairs"]] == wanted
    for row in told["pairs"]:
        spread, both = spreads[row["prompt"]]
        assert row["spread"] == pytest.approx(spread, rel=1e-4)
        assert {row["response_a"], row["response_b"]} == both
        assert row["margin"] > 0
    assert not (tmp_path / "queue.jsonl.partial").exists()


def test_a_queue_that_was_lost_is_written_again_and_one_of_others_is_refused(
    config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    query(query_config(config()))
    before = (tmp_path / "queue.jsonl").read_text(encoding="utf-8")
    (tmp_path / "queue.jsonl").unlink()
    assert query(query_config(config())).out is None
    assert (tmp_path / "queue.jsonl").read_text(encoding="utf-8") == before
    with pytest.raises(StoreError, match=r"another configuration: budget was 3, now 4; use that one"):
        query(query_config(config(budget=4)))
    (tmp_path / "queue.query.json").unlink()
    with pytest.raises(StoreError, match=r"queue\.jsonl exists, but not queue\.query\.json"):
        query(query_config(config()))


def test_a_judge_labels_a_queue(
    config: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``seralign label`` reads a queue as it is."""
    (tmp_path / "brief_judge.py").write_text(
        "def shorter(prompts, firsts, seconds):\n"
        "    return [0.9 if len(a) < len(b) else 0.1 for a, b in zip(firsts, seconds)]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    query(query_config(config(strategy="coreset")))
    label = tmp_path / "label.yaml"
    label.write_text(
        f"out: {tmp_path}/judged.jsonl\n"
        f"data: {{path: {tmp_path}/queue.jsonl, responses: [response_a, response_b]}}\n"
        "signals: [{name: judge, judge: function, judge_options: {function: 'brief_judge:shorter'}}]\n",
        encoding="utf-8",
    )
    assert main(["label", str(label)]) == 0
    made = _lines(tmp_path / "judged.jsonl")
    assert len(made) == 3
    assert all(len(row["chosen"]) < len(row["rejected"]) and row["p"] == pytest.approx(0.9) for row in made)


def test_the_command_ends_with_its_own_code(
    config: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "query.yaml"
    file.write_text(json.dumps(config()), encoding="utf-8")
    assert main(["query", str(file)]) == 3
    printed = capsys.readouterr()
    assert "3 of 5 pairs to label" in printed.out
    assert "Set each label to" in printed.err
    assert main(["query", str(file)]) == 3
    assert not capsys.readouterr().err.startswith("error")
    rows = _lines(tmp_path / "queue.jsonl")
    _write(tmp_path / "queue.jsonl", [row | {"label": "b"} for row in rows] + [{"pair_id": "x", "label": "a"}])
    assert main(["query", str(file)]) == 2
    assert "row 4: there is no pair 'x'" in capsys.readouterr().err
    _write(tmp_path / "queue.jsonl", [row | {"label": "b"} for row in rows])
    assert main(["query", str(file)]) == 0
    assert f"data: {{pairs: {{path: {tmp_path / 'pairs.jsonl'}}}" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "pairs.jsonl"), "--model", "no-such-model"]) == 2


def test_nothing_to_ask_about_is_an_error(config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    _write(tmp_path / "candidates.jsonl", [{"prompt": "p", "responses": [{"text": "one"}, {"text": "one"}]}])
    with pytest.raises(DataError, match=r"no pair can be made: prompts without two different responses 1"):
        query(query_config(config()))
    query_file = tmp_path / "queue.jsonl"
    _write(tmp_path / "candidates.jsonl", [{"prompt": "p", "responses": [{"text": "one"}, {"text": "two"}]}])
    query(query_config(config()))
    _write(query_file, [row | {"label": "tie"} for row in _lines(query_file)])
    with pytest.raises(DataError, match=r"no pair has a better response: tie 1, skipped 0"):
        query(query_config(config()))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"strategy": "uncertainty"}, r"strategy: uncertainty needs 1 reward_models or more, got 0"),
        ({"strategy": "disagreement", "reward_models": ["m"]}, r"strategy: disagreement needs 2 reward_models"),
        ({"strategy": "margin"}, r"strategy must be one of"),
        ({"budget": 0}, r"budget must be at least 1, got 0"),
        ({"queue": "queue.csv"}, r"queue must be a file that ends with \.jsonl"),
        ({"pairs": 5}, r"pairs: unknown key"),
        ({"data": {"path": "a", "response": "r", "budget": 1}}, r"data\.budget: unknown key"),
    ],
)
def test_wrong_keys_are_named(more: dict[str, Any], message: str, config: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match=message):
        query_config(config(**more))

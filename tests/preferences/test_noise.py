"""Estimates of wrong labels: by hand, on labels that were flipped, and from the review of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from text_model import save_text_model

from seralign.cli.main import main
from seralign.errors import ConfigError
from seralign.preferences.diagnosis import diagnose, tables
from seralign.preferences.noise import Labelled, Suspect, estimate_noise, question
from seralign.preferences.reviewed import Reviewed
from seralign.records import Example, Pair, Prompt, Response


def labelled(count: int) -> list[Labelled]:
    return [Labelled(f"pair {number}", f"id {number}", f"prompt {number}") for number in range(count)]


def test_an_estimate_by_hand() -> None:
    p = np.array([0.9, 0.9, 0.9, 0.2] * 10)
    found = estimate_noise(p, labelled(40), "hands", 3)
    assert found.wrong == pytest.approx(0.25)
    assert found.accuracy.mean == 0.75
    assert found.suspects == tuple(Suspect(f"pair {at}", f"prompt {at}", 0.2) for at in (3, 7, 11, 15, 19))
    assert (found.basis, found.unjudged) == ("hands", 3)


def test_one_half_is_no_opinion() -> None:
    p = np.array(([0.9] * 9 + [0.2, 0.5, 0.5] * 3) * 10)
    assert estimate_noise(p, labelled(180), "", 0).wrong == pytest.approx(0.25)


def test_no_doubt_is_no_noise_and_a_coin_gives_no_estimate() -> None:
    found = estimate_noise(np.full(30, 0.8), labelled(30), "", 0)
    assert (found.wrong, found.suspects) == (0.0, ())
    found = estimate_noise(np.array([0.9, 0.1] * 20), labelled(40), "", 0)
    assert (found.wrong, found.suspects, found.accuracy.mean) == (None, (), 0.5)


def test_what_a_prompt_asks_is_one_line() -> None:
    assert question(Prompt("id", "a\n\tb  c" + " d" * 100, (1,))) == "a b c" + " d" * 27 + " "


def test_of_a_conversation_the_last_user_message_is_shown() -> None:
    turns = [("system", "Be brief. " * 20), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why is\nthe sky blue?")]
    messages = json.dumps([{"role": role, "content": text} for role, text in turns])
    assert question(Prompt("id", "<system> Be brief.", (1,), messages)) == "Why is the sky blue?"
    parts = json.dumps([{"role": "user", "content": [{"type": "text", "text": "Why?"}]}])
    assert question(Prompt("id", "<user> Why?", (1,), parts)) == "Why?"
    assert question(Prompt("id", "<assistant> Hi", (1,), json.dumps([{"role": "system", "content": "x"}]))) == (
        "<assistant> Hi"
    )


def flipped(share: float, count: int = 300) -> list[Example]:
    """Pairs whose better response has a word that the other one lacks, and a share of labels that are wrong."""
    random = np.random.default_rng(0)
    found = []
    for number in range(count):
        good, bad = (f"{word} {random.choice(['red', 'green', 'blue'])}" for word in ("thanks", "never"))
        sides = (bad, good) if random.random() < share else (good, bad)
        responses = tuple(Response(text, tuple(text.encode())) for text in sides)
        found.append(Example(f"pair {number}", Prompt(f"id {number}", f"prompt {number}", (1,)), responses, Pair()))
    return found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_flipped_labels_are_found_by_the_words(share: float) -> None:
    """Both words have as many letters in all: surface features say nothing of them."""
    examples = flipped(share)
    wrong = {one.example_id for one in examples if one.responses[0].text.startswith("never")}
    noise = diagnose(examples).noise
    assert noise is not None
    assert noise.basis == "words and surface features of the responses, cross-validated"
    assert noise.wrong == pytest.approx(len(wrong) / 300, abs=0.02)
    assert {one.example_id for one in noise.suspects} <= wrong
    assert len(noise.suspects) == (0 if share == 0 else 5)


def test_random_labels_give_no_estimate() -> None:
    noise = diagnose(flipped(0.5, 100)).noise
    assert noise is not None
    assert noise.wrong is None
    [table] = [one for one in tables(diagnose(flipped(0.5, 100))) if one.caption.startswith("Label noise")]
    assert table.rows[-1][1] == "no estimate: it predicts labels no better than a coin"


def test_a_review_is_used_instead_of_the_words() -> None:
    examples = flipped(0.2)
    p = {one.example_id: 0.9 if at % 10 else 0.3 for at, one in enumerate(examples[:200])}
    noise = diagnose(examples, Reviewed(p, "margins of a run")).noise
    assert noise is not None
    assert (noise.basis, noise.accuracy.n, noise.unjudged) == ("margins of a run", 200, 100)
    assert noise.accuracy.mean == 0.9
    # Labels have 0.84 on average, and no other response is that likely.
    assert noise.wrong == 0.0
    with pytest.raises(ConfigError, match=r"^--margins: the run has reviewed none of these pairs"):
        diagnose(examples, Reviewed({"other": 0.5}, ""))


def test_too_few_prompts_give_no_estimate() -> None:
    assert diagnose(flipped(0.0, 10)).noise is None


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    save_text_model(tmp_path / "model", chat_template=None)
    rows = [{"prompt": f"q{number} ", "chosen": "yes, sir", "rejected": "no"} for number in range(24)]
    rows[5] |= {"chosen": "no", "rejected": "yes, sir", "pair_id": "turned"}
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["inspect", "pairs.jsonl", "--model", "model", "--examples", "0", "--diagnose"]
    assert main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "rests on words and surface features of the responses, cross-validated" in printed
    assert "labels that it predicts 95.8%" in printed
    assert "labels that are probably wrong 4.2%" in printed
    assert "Least likely labels" in printed
    assert "turned" in printed
    capsys.readouterr()
    assert main([*command[:4], "--examples", "1", "--diagnose"]) == 0
    # In full: the least likely label, not the first row.
    assert "pair turned p 1 weight 1 chosen: " in " ".join(capsys.readouterr().out.split())
    assert main([*command[:-1], "--margins", "run"]) == 2
    assert "--margins needs --diagnose" in capsys.readouterr().err
    assert main([*command, "--margins", "run"]) == 2
    assert "run: no run here (run.json is missing)" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    assert main(command) == 2
    assert "--diagnose needs the library cleanlab, which is not installed" in capsys.readouterr().err

"""What is found in a data set of pairs before it is trained on: by hand, and on pairs whose labels follow a feature."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_model import save_text_model

from seralign.cli.main import main
from seralign.preferences.circles import in_circles
from seralign.preferences.diagnosis import ALL, diagnose, overlap, tables
from seralign.preferences.surface import FEATURES, features
from seralign.records import Demonstration, Example, Pair, Prompt, Response


def example(prompt: str, *responses: str) -> Example:
    made = tuple(Response(text, tuple(text.encode())) for text in responses)
    return Example(
        f"{prompt} {responses}", Prompt(prompt, prompt, (1,)), made, Pair() if len(made) == 2 else Demonstration()
    )


def labelled(chosen_is_longer: float, count: int = 400) -> Iterable[Example]:
    random = np.random.default_rng(0)
    for number in range(count):
        short, long = "x" * int(random.integers(1, 20)), "x" * int(random.integers(20, 40))
        right = random.random() < chosen_is_longer
        yield example(f"prompt {number}", *((long, short) if right else (short, long)))


def test_features_by_hand() -> None:
    found = dict(zip(FEATURES, features("Say yes", "Yes, 2 a a!", [1, 2, 3]), strict=True))
    assert found == pytest.approx({
        "tokens": 3, "words": 4, "lines": 1, "list items": 0, "code blocks": 0, "question marks": 0,
        "exclamation marks": 1, "digits": 1 / 11, "capitals": 1 / 11, "word length": 1.5, "different words": 0.75,
        "words of the prompt": 0.25,
    })  # fmt: skip
    found = dict(zip(FEATURES, features("", "- a?\n\n2) b\n```\nx\n```\n", []), strict=True))
    assert (found["list items"], found["lines"], found["code blocks"], found["question marks"]) == (2, 5, 1, 1)
    assert features("", "", []) == (0.0,) * len(FEATURES)


def test_circles_by_hand() -> None:
    found = in_circles([("a", "b"), ("b", "c"), ("c", "a"), ("a", "d"), ("e", "f"), ("f", "e")])
    assert found == {("a", "b"), ("b", "c"), ("c", "a"), ("e", "f"), ("f", "e")}
    assert in_circles([]) == set()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda pair: pair[0] != pair[1])))
def test_circles_are_what_can_be_walked_around(preferences: list[tuple[int, int]]) -> None:
    def reaches(start: int, end: int) -> bool:
        seen, todo = set(), [start]
        while todo:
            item = todo.pop()
            if item == end:
                return True
            if item not in seen:
                seen.add(item)
                todo += [worse for better, worse in preferences if better == item]
        return False

    assert in_circles(preferences) == {pair for pair in preferences if reaches(pair[1], pair[0])}


def test_common_tokens_by_hand() -> None:
    assert overlap([1, 1, 2], [1, 2, 3, 4]) == 0.5
    assert overlap([], []) == 0.0
    assert overlap([1, 2], [2, 1]) == 1.0


def test_repeated_and_contradicting_pairs() -> None:
    pairs = [
        example("q", "a", "b"), example("q", "a", "b"), example("q", "b", "a"),
        example("r", "a", "b"), example("r", "b", "c"), example("r", "c", "a"), example("r", "a", "d"),
        example("s", "a", "b"), example("t", "x" * 19 + "y", "x" * 20), example("u", "alone"),
    ]  # fmt: skip
    found = diagnose(pairs)
    assert (found.pairs, found.prompts, found.duplicates) == (9, 4, 1)
    assert (found.contradictions, found.circles, found.near_identical) == (3, 3, 1)
    assert found.overlap == 0.0
    assert found.predicted == (), "four prompts are too few"
    assert len(list(tables(found))) == 1


@pytest.mark.parametrize(("share", "accuracy", "more"), [(1.0, 1.0, 1.0), (0.8, 0.8, 0.8), (0.1, 0.9, 0.1)])
def test_labels_that_follow_length_are_found_out(share: float, accuracy: float, more: float) -> None:
    found = {one.name: one for one in diagnose(labelled(share)).predicted}
    assert found["tokens"].accuracy.mean == pytest.approx(accuracy, abs=0.05)
    assert found["tokens"].more == pytest.approx(more, abs=0.05)
    assert found[ALL].accuracy.mean == pytest.approx(accuracy, abs=0.06)
    assert found["digits"].accuracy.mean == 0.5
    assert found["digits"].more is None


def test_random_labels_are_not_predicted() -> None:
    found = diagnose(labelled(0.5)).predicted
    assert found[0].name == ALL
    low, high = found[0].accuracy.low, found[0].accuracy.high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high or abs(found[0].accuracy.mean - 0.5) < 0.06


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    save_text_model(tmp_path / "model", chat_template=None)
    rows = [{"prompt": f"q{number} ", "chosen": "longer " * (2 + number % 3), "rejected": "no"} for number in range(24)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["inspect", "pairs.jsonl", "--model", "model", "--examples", "0"]
    assert main([*command, "--diagnose", "--picture", "found.svg"]) == 0
    printed = capsys.readouterr().out
    assert "What surface features alone predict" in printed
    assert [line.split()[:2] for line in printed.splitlines() if line.strip().startswith("tokens  ")][-1] == [
        "tokens",
        "100.0%",
    ]
    assert ">tokens</text>" in Path("found.svg").read_text()
    assert main([*command, "--picture", "found.svg"]) == 2
    assert "--picture needs --diagnose" in capsys.readouterr().err
    assert main([*command, "--diagnose", "--picture", "found.png"]) == 2
    assert "give the name of an .svg file" in capsys.readouterr().err

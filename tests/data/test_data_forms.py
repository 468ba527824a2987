"""Rows of rankings, labels and scores, in the shapes of well-known data sets, and what is wrong with some."""

from __future__ import annotations

import math
from typing import Any

import pytest
from given_rows import assistant, user

from seralign.config import DataConfig
from seralign.data.formats import read_example
from seralign.data.place import reading
from seralign.data.raw import Drop, RawExample
from seralign.errors import DataError
from seralign.records import Label, Preference, Ranking, Scores, dense_ranks


def read(row: dict[str, Any]) -> RawExample | Drop:
    return read_example(row, "f row 1", reading(DataConfig(), "data.pairs"))


def example(row: dict[str, Any]) -> RawExample:
    raw = read(row)
    assert isinstance(raw, RawExample), raw
    return raw


def nectar(*ranks: Any) -> dict[str, Any]:
    answers = [{"answer": letter, "model": "m", "rank": rank} for letter, rank in zip("abcdefg", ranks, strict=False)]
    return {"prompt": "\n\nHuman: Hi\n\nAssistant: ", "answers": answers, "turns": 1, "good_natured": True}


@pytest.mark.parametrize(
    ("row", "responses", "preference"),
    [
        (nectar(3.0, 1.0, 2.0), ("b", "c", "a"), Ranking((1, 2, 3))),
        (nectar(0, 1), ("a", "b"), Ranking((1, 2))),
        (nectar(1, 1, 3), ("a", "b", "c"), Ranking((1, 1, 2))),
        (nectar(2, 1, 2, 3), ("b", "a", "c", "d"), Ranking((1, 2, 2, 3))),
        ({"prompt": "Q", "responses": ["a", "b", "c"], "ranks": [2, 3, 1]}, ("c", "a", "b"), Ranking((1, 2, 3))),
        ({"prompt": "Q", "completions": ["a", "b"], "scores": [0.5, 2]}, ("b", "a"), Scores((2.0, 0.5))),
        (
            {"prompt": "Q", "completions": [{"response": "a", "overall_score": 7.5, "annotations": {"x": 1}},
                                            {"response": "b", "overall_score": 9}]},
            ("b", "a"), Scores((9.0, 7.5)),
        ),
        ({"prompt": "Q", "responses": ["a", "b"], "scores": [1, 1]}, ("a", "b"), Scores((1.0, 1.0))),
        ({"prompt": "Q", "completion": "a", "label": True}, ("a",), Label(True)),
        ({"prompt": "Q", "completion": "a", "label": "False"}, ("a",), Label(False)),
        ({"prompt": "Q", "response": "a", "kto_tag": 0}, ("a",), Label(False)),
        ({"prompt": "Q", "response": "a", "desirable": "yes", "score": 3}, ("a",), Label(True)),
        ({"prompt": "Q", "response": "a", "helpfulness": 4}, ("a",), Scores((4.0,))),
        ({"prompt": "Q", "response": "a", "score": "3.5", "rating": 1, "correctness": 2}, ("a",), Scores((3.5,))),
        ({"prompt": "Q", "response": "a", "rank": 2}, ("a",), Ranking((2,))),
    ],
)  # fmt: skip
def test_each_shape_of_row_gives_its_preference(
    row: dict[str, Any], responses: tuple[str, ...], preference: Preference
) -> None:
    raw = example(row)
    assert (raw.responses, raw.preference) == (responses, preference)
    assert raw.prompt == row["prompt"]


def test_conversations_have_other_forms_too() -> None:
    asked = [user("Q")]
    raw = example({"messages": [user("Q"), assistant("a")], "label": False})
    assert (raw.prompt, raw.responses, raw.preference) == (tuple(asked), ((assistant("a"),),), Label(False))
    row = {"prompt": asked, "responses": [[assistant("a")], assistant("b"), [assistant("c")]], "ranks": [3, 1, 2]}
    raw = example(row)
    assert raw.responses == tuple((assistant(text),) for text in "bca")
    assert raw.preference == Ranking((1, 2, 3))
    sharegpt = {"conversations": asked, "responses": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]}
    assert example(sharegpt | {"scores": [0, 1]}).responses == ((assistant("b"),), (assistant("a"),))


def test_what_is_not_read_is_named_and_the_rest_is_kept() -> None:
    raw = example({**nectar(1, 2), "weight": 2.0, "pair_id": "n-1"})
    assert (raw.unread, raw.weight, raw.example_id, raw.named) == (("turns", "good_natured"), 2.0, "n-1", True)
    assert example({"prompt": "Q", "response": "a", "desirable": True, "score": 3}).unread == ("score",)
    # The same responses with another preference are another example.
    liked, disliked = ({"prompt": "Q", "completion": "a", "label": label} for label in (True, False))
    assert example(liked).example_id != example(disliked).example_id
    assert example(nectar(1, 2)).example_id != example(nectar(2, 1)).example_id


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (nectar(1, 2, 4), "ranking with a hole in its ranks"),
        (nectar(2, 3), "ranking with a hole in its ranks"),
        (nectar(1, 1, 4), "ranking with a hole in its ranks"),
        (nectar(1, 1), "ranking in which all responses are tied"),
        (nectar(1), "fewer than two responses"),
        ({"prompt": "Q", "responses": ["a", "a", "b"], "ranks": [1, 2, 3]},
         "ranking with equal responses of different ranks"),
        ({"prompt": "Q", "completion": "a", "label": None}, "no label"),
        ({"prompt": "Q", "response": "a", "score": None}, "no score"),
        ({"prompt": "Q", "response": "a", "rank": None}, "no rank"),
    ],
)  # fmt: skip
def test_rows_that_say_nothing_or_contradict_themselves_are_dropped_with_the_reason(
    row: dict[str, Any], reason: str
) -> None:
    raw = read(row)
    assert isinstance(raw, Drop)
    assert raw.reason == reason


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (nectar(1, "first"), r"answers\[1\].rank must be a finite number, got str 'first'"),
        (nectar(1, None), r"answers\[1\].rank must be a finite number, got null"),
        (nectar(1, 2.5), r"answers\[1\].rank must be a rank, a whole number with the best lowest, got 2.5"),
        (nectar(1, -2), r"answers\[1\].rank must be a rank"),
        (nectar(1, True), r"answers\[1\].rank must be a finite number, got bool 'True'"),
        ({"prompt": "Q", "responses": ["a", "b"], "ranks": [1, 2, 3]},
         "ranks has 3 entries, but responses has 2 responses"),
        ({"prompt": "Q", "responses": ["a", "b"], "scores": [1.0, math.nan]},
         r"scores\[1\] must be a finite number, got float 'nan'"),
        ({"prompt": "Q", "responses": ["a", "b"], "ranking": [1, 2]},
         r"responses are several responses without a rank or score for each.*data.pairs.columns: \{ranks: NAME\}"),
        ({"prompt": "Q", "responses": ["a", "b"]},
         r"responses are several responses without a rank or score for each; write them as ranks or scores, .* "
         r"seralign label makes preferences of votes, checks or a judge \(docs/labels.md\); the columns are prom"),
        ({"prompt": "Q", "answers": [{"answer": "a"}, {"answer": "b"}]}, "answers are several responses without a r"),
        ({"prompt": "Q", "responses": ["a", "b"], "ranks": None}, "responses are several responses without a rank"),
        ({"prompt": "Q", "response": "a"},
         "one response, and no label, score or rank to compare it by; add one of them or a second response, or give "
         "the rows as data.demonstrations; the columns are prompt, response$"),
        ({"prompt": "Q", "responses": ["a", 3], "ranks": [1, 2]}, r"responses\[1\] must be text or a list of"),
        ({"prompt": "Q", "answers": [{"text": "a", "answer": "b", "rank": 1}, {"answer": "c", "rank": 2}]},
         r"answers\[0\] must have one of answer, response"),
        ({"responses": ["a", "b"], "ranks": [1, 2]}, "a prompt needs a column prompt"),
        ({"prompt": "Q", "completion": "a", "label": "maybe"}, r"label must be true or false \(or 1 or 0\), got str"),
        ({"prompt": "Q", "completion": "a", "label": 2}, "label must be true or false"),
        ({"prompt": "Q", "completion": "a", "label": 0.5}, "label must be true or false"),
        ({"prompt": "Q", "response": "a", "score": math.inf}, "score must be a finite number, got float 'inf'"),
        ({"prompt": "Q", "response": "a", "score": 10**400}, "score must be a finite number, got int '1000"),
        ({"prompt": "Q", "response": "a", "score": "high"}, "score must be a finite number, got str 'high'"),
        ({"prompt": "Q", "response": "a", "helpfulness": 3, "correctness": 4},
         r"helpfulness, correctness are several scores; name the one to train on: data.pairs.columns: "
         r"\{score: helpfulness\}"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_read_are_errors_that_name_them(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^f row 1: {message}"):
        read(row)


def test_ranks_are_made_dense() -> None:
    assert dense_ranks([3, 1, 1, 4]) == (2, 1, 1, 3)
    assert dense_ranks([0, 2, 0]) == (1, 2, 1)
    assert dense_ranks([2, 1, 2]) == (2, 1, 2)
    for holes in ([1, 3], [2], [1, 1, 4], [], [-1, 0]):
        assert dense_ranks(holes) is None

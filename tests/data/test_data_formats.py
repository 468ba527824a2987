"""Rows become pairs, prompts and demonstrations, or a counted drop, or an error that names the row."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.data.formats import read_demonstration, read_pair, read_prompt
from seralign.data.markers import border
from seralign.data.raw import Drop, RawExample
from seralign.errors import DataError
from seralign.records import Pair, content_id

U1, A1, U2 = ({"role": r, "content": c} for r, c in [("user", "hi"), ("assistant", "hello"), ("user", "more")])
GOOD, BAD = ({"role": "assistant", "content": c} for c in ("good", "bad"))
PLAIN = {"prompt": "Q", "chosen": "a", "rejected": "b"}


def pair(row: dict[str, Any]) -> RawExample:
    raw = read_pair(row, "f row 1")
    assert isinstance(raw, RawExample)
    return raw


@pytest.mark.parametrize(
    ("row", "prompt", "chosen", "rejected"),
    [
        (PLAIN, "Q", "a", "b"),
        ({"chosen": "\n\nHuman: q?\n\nAssistant: Yes.", "rejected": "\n\nHuman: q?\n\nAssistant: Yet."},
         "\n\nHuman: q?\n\nAssistant:", " Yes.", " Yet."),
        ({"chosen": "Q: a\nA: yes", "rejected": "Q: a\nA: no"}, "Q: a\nA:", " yes", " no"),
        ({"prompt": [U1], "chosen": [GOOD], "rejected": [BAD]}, (U1,), (GOOD,), (BAD,)),
        ({"prompt": [U1, A1, U2], "chosen": "good", "rejected": "bad"}, (U1, A1, U2), (GOOD,), (BAD,)),
        ({"prompt": "hi", "chosen": [GOOD], "rejected": [BAD]}, (U1,), (GOOD,), (BAD,)),
        ({"prompt": "hi", "chosen": [U1, GOOD], "rejected": [U1, BAD]}, (U1,), (GOOD,), (BAD,)),
        ({"prompt": [U1], "chosen": [U1, GOOD], "rejected": [U1, BAD]}, (U1,), (GOOD,), (BAD,)),
        ({"chosen": [U1, A1, U2, GOOD], "rejected": [U1, A1, U2, BAD]}, (U1, A1, U2), (GOOD,), (BAD,)),
        ({"chosen": [U1, GOOD], "rejected": [U1, GOOD]}, (U1,), (GOOD,), (GOOD,)),
        ({"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": []}, (1,), (2, 3), ()),
        ({"prompt_input_ids": [1], "chosen_input_ids": [2], "rejected_input_ids": [3]}, (1,), (2,), (3,)),
    ],
)  # fmt: skip
def test_each_format_gives_the_prompt_and_its_responses(row: dict, prompt: Any, chosen: Any, rejected: Any) -> None:
    raw = pair(row)
    assert (raw.prompt, *raw.responses) == (prompt, chosen, rejected)
    assert (raw.preference, raw.weight, raw.notes) == (Pair(), 1.0, ())
    assert raw.example_id == content_id([raw.prompt, raw.responses[0], raw.responses[1]])


def test_the_nulls_that_a_table_adds_to_messages_are_left_out() -> None:
    assert pair({"prompt": [U1 | {"name": None}], "chosen": [GOOD], "rejected": [BAD]}).prompt == (U1,)


@pytest.mark.parametrize(("p_b", "chosen", "p"), [(0.25, "A", 0.75), (0.75, "B", 0.75), (1.0, "B", 1.0), (0, "A", 1.0)])
def test_two_answers_are_turned_by_p_b(p_b: float, chosen: str, p: float) -> None:
    raw = pair({"prompt": "q", "response_a": "A", "response_b": "B", "p_b": p_b, "prompt_id": 7})
    assert (raw.responses[0], raw.preference, "swapped" in raw.notes) == (chosen, Pair(p), chosen == "B")


def test_a_pair_turned_round_has_the_identity_of_the_right_one() -> None:
    raw = pair({"prompt": "Q", "chosen": "b", "rejected": "a", "p": 0.125})
    assert raw.preference == Pair(0.875)
    assert raw.example_id == pair(PLAIN | {"p": 0.875}).example_id


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (PLAIN | {"p": 0.5}, "tie"),
        ({"chosen": "yes", "rejected": "no"}, "no prompt column and no turn marker that both answers share"),
        ({"chosen": "The sky is blue", "rejected": "The sky is black"},
         "no prompt column and no turn marker that both answers share"),
        ({"chosen": [U1, GOOD], "rejected": [U2, BAD]}, "no shared prompt"),
        ({"chosen": [U1, A1, U2, GOOD], "rejected": [U1, GOOD, U2, BAD]}, "answer of several turns"),
        ({"chosen": [U1, A1, U2], "rejected": [U1, A1, U1]}, "answer is not the assistant's"),
        ({"prompt": [U1], "chosen": [U1, GOOD], "rejected": [BAD]}, "answers do not begin with the prompt"),
        ({"prompt": [U1], "chosen": [U2, GOOD], "rejected": [U2, BAD]}, "answers do not begin with the prompt"),
        ({"prompt": [U1], "chosen": [GOOD, U2, A1], "rejected": [BAD]}, "answer of several turns"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "rejected": "\n\nHuman: a\n\nAssistant: d"},
         "answer of several turns"),
    ],
)  # fmt: skip
def test_rows_that_are_no_use_are_dropped_by_name(row: dict, reason: str) -> None:
    assert read_pair(row, "f row 1") == Drop(reason)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": 1.5}, r"p must be a probability in \[0, 1\], got 1.5"),
        ({"p": -0.1}, "p must be"),
        ({"p": math.nan}, "got nan"),
        ({"p": "0.9"}, "got str '0.9'"),
        ({"p": True}, "got bool True"),
        ({"weight": 0}, "weight must be a finite number greater than 0"),
        ({"weight": math.inf}, "weight must be"),
        ({"pair_id": ""}, "pair_id must be"),
        ({"pair_id": 1.5}, "pair_id must be"),
        ({"prompt": None}, "prompt must be text .* got null"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"chosen": 5}, "chosen must be text .* got int '5'"),
        ({"chosen": None}, "got null"),
        ({"chosen": []}, "chosen must be text"),
        ({"chosen": [1, 2]}, "chosen must be text"),
        ({"chosen": [GOOD]}, "one response is text and the other"),
        ({"prompt": [{"role": "user"}]}, "message 1 of prompt needs a text 'content', got null"),
        ({"prompt": [U1, A1]}, "ends with an assistant message"),
        (
            {"prompt": "x", "chosen": [U1, GOOD], "rejected": [U1, BAD]},
            "chosen and rejected do not begin with the messages of prompt",
        ),
        ({"prompt_ids": ["a"], "chosen_ids": [1], "rejected_ids": [2]}, "prompt_ids must be a list of token ids"),
        ({"prompt_ids": [], "chosen_ids": [1], "rejected_ids": [2]}, "the prompt is empty"),
    ],
)
def test_wrong_values_name_the_row_and_the_rule(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=f"^data.jsonl row 3: .*{message}"):
        read_pair(PLAIN | change, "data.jsonl row 3")


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match=r"a pair needs chosen and rejected.*columns are question, answer"):
        read_pair({"question": "q", "answer": "a"}, "f row 1")
    with pytest.raises(DataError, match="p_b is missing"):
        read_pair({"prompt": "q", "response_a": "a", "response_b": "b"}, "f row 1")


def test_null_options_count_as_absent() -> None:
    raw = pair(PLAIN | {"p": None, "weight": None, "pair_id": None})
    assert (raw.preference, raw.weight, raw.named) == (Pair(), 1.0, False)
    assert pair(PLAIN | {"pair_id": 12}).example_id == "12"


MARKS = ["\n\nAssistant:", "<|im_start|>assistant\n", "[/INST]", "### Response:\n"]


@given(st.text("ab \n", max_size=20), st.sampled_from(MARKS), st.text("ab \n"), st.text("ab \n"))
def test_an_implicit_prompt_is_shared_and_ends_at_a_mark(start: str, mark: str, first: str, second: str) -> None:
    wholes = [start + mark + answer for answer in (first, second)]
    end = border(*wholes)
    assert wholes[0][:end] == wholes[1][:end]
    assert wholes[0][:end].rstrip("\n").endswith(mark.rstrip("\n"))
    assert border(start + first, start + second) == 0


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"prompt": "Q", "response": "a"}, "Q", "a"),
        ({"prompt": "Q", "completion": "a"}, "Q", "a"),
        ({"prompt": "Q", "chosen": "a"}, "Q", "a"),
        ({"prompt": [U1], "completion": [GOOD]}, (U1,), (GOOD,)),
        ({"messages": [U1, A1, U2, GOOD]}, (U1, A1, U2), (GOOD,)),
        ({"prompt_ids": [1], "completion_ids": [2]}, (1,), (2,)),
        (PLAIN | {"p": 0.1}, "Q", "b"),
    ],
)
def test_demonstrations(row: dict, prompt: Any, response: Any) -> None:
    raw = read_demonstration(row, "f row 1")
    assert not isinstance(raw, Drop)
    assert (raw.prompt, raw.responses[0]) == (prompt, response)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Q"}, "Q"),
        ({"prompt": [U1]}, (U1,)),
        ({"messages": [U1, A1]}, (U1,)),
        ({"prompt_ids": [3]}, (3,)),
        (PLAIN | {"p": 0.5}, "Q"),
        ({"prompt": "q", "response_a": "a", "response_b": "b"}, "q"),
        ({"chosen": [U1, GOOD], "rejected": [U1, BAD]}, (U1,)),
    ],
)
def test_prompts(row: dict, prompt: Any) -> None:
    raw = read_prompt(row, "f row 1")
    assert not isinstance(raw, Drop)
    assert raw.prompt == prompt


def test_prompts_and_demonstrations_say_what_they_need() -> None:
    with pytest.raises(DataError, match="f row 1: a prompt needs"):
        read_prompt({"messages_": "x"}, "f row 1")
    with pytest.raises(DataError, match="f row 1: a demonstration needs"):
        read_demonstration({"prompt": "x"}, "f row 1")
    with pytest.raises(DataError, match="f row 1: messages must be"):
        read_demonstration({"messages": [U1]}, "f row 1")
    with pytest.raises(DataError, match="f row 1: the prompt is empty"):
        read_prompt({"messages": [A1]}, "f row 1")

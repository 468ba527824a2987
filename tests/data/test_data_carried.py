"""Columns of the source that ``data.keep_columns`` names stay with their rows, whatever the format of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_tokenizers as tiny
from given_rows import CHAT, PLAIN, assistant, user

from seralign.config import DataConfig, SourceConfig
from seralign.data.prepare import prepare_pairs
from seralign.data.table import to_example
from seralign.data.tokens import Encoder, make_encoder
from seralign.errors import DataError


def encoder(template: str | None = None, **data: Any) -> Encoder:
    return make_encoder(tiny.byte_bpe(template), DataConfig(**data), frozenset())


SHAREGPT = {
    "conversations": [{"from": "human", "value": "Q"}],
    "chosen": {"from": "gpt", "value": "a"},
    "rejected": {"from": "gpt", "value": "b"},
}
OPENAI = {
    "input": {"messages": [user("Q")]},
    "preferred_output": [assistant("a")],
    "non_preferred_output": [assistant("b")],
}
HH = {"chosen": "\n\nHuman: Q\n\nAssistant: a", "rejected": "\n\nHuman: Q\n\nAssistant: b"}
PKU = {"prompt": "Q", "response_0": "b", "response_1": "a", "better_response_id": 1}


@pytest.mark.parametrize(
    ("given", "data"),
    [
        (PLAIN, {}),
        (CHAT, {}),
        ({"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [8]}, {}),
        ({"prompt": "Q", "response_a": "b", "response_b": "a", "p_b": 0.9}, {}),
        ({"messages": [user("Q"), assistant("a")], "rejected": "b"}, {}),
        ({"messages": [user("Q"), assistant("a")], "rejected_response": "b"}, {}),
        (SHAREGPT, {}),
        (OPENAI, {}),
        (HH, {}),
        (HH, {"format": "hh"}),
        (PKU, {}),
    ],
    ids=[
        "plain",
        "chat",
        "ids",
        "labelled",
        "one conversation",
        "swift",
        "ShareGPT",
        "OpenAI",
        "HH",
        "HH turns",
        "PKU",
    ],
)
def test_every_format_of_rows_carries_columns_along(
    given: dict[str, Any], data: dict[str, Any], tmp_path: Path
) -> None:
    """``p`` turns a pair and ``pair_id`` names it; as columns to keep they are text besides."""
    more = [{"annotator": "ann", "turn": 1}, {"annotator": None, "turn": {"of": [2, 3]}, "pair_id": "mine"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"pair_id": "x", **given, **one}) + "\n" for one in more))
    source = SourceConfig(str(tmp_path / "d.jsonl"))
    names = ["annotator", "turn", "pair_id"]
    made = encoder(tiny.CHATML, keep_columns=names, **data)
    table, report = prepare_pairs(source, made, tmp_path / "a.arrow", "data.pairs")
    examples = [to_example(item) for item in table]
    assert [example.carried for example in examples] == [
        {"annotator": "ann", "turn": "1", "pair_id": "x"},
        {"annotator": None, "turn": '{"of": [2, 3]}', "pair_id": "mine"},
    ]
    assert [example.example_id for example in examples] == ["x", "mine"]
    assert all(len(example.responses) == 2 and example.preference.form == "pair" for example in examples)
    assert report.unread == ()


def test_a_swapped_pair_keeps_its_columns(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(PLAIN | {"p": 0.25, "annotator": "ann"}) + "\n")
    made = encoder(keep_columns=["annotator", "p"])
    table, _ = prepare_pairs(SourceConfig(str(tmp_path / "d.jsonl")), made, tmp_path / "a.arrow", "data.pairs")
    (example,) = map(to_example, table)
    assert [response.text for response in example.responses] == ["b", "a"]
    assert example.carried == {"annotator": "ann", "p": "0.25"}


CARRIED = [
    {"prompt": "q", "good": "a", "rejected": "b", "annotator": "ann", "source": None, "votes": [1, 2], "chosen": "x"},
    {"prompt": "r", "good": "a", "rejected": "b", "annotator": "bob", "source": "web", "other": 1},
]


def test_named_columns_stay_with_the_rows(tmp_path: Path) -> None:
    """By their names in the file, also where ``columns`` gives them another; a value that is no text is JSON."""
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in CARRIED))
    source = SourceConfig(str(tmp_path / "d.jsonl"), columns={"chosen": "good"})
    names = ["annotator", "source", "votes", "good", "chosen"]
    table, report = prepare_pairs(source, encoder(keep_columns=names), tmp_path / "a.arrow", "data.pairs")
    assert table.column_names[-5:] == [f"carried.{name}" for name in names]
    assert [to_example(item).carried for item in table] == [
        {"annotator": "ann", "source": None, "votes": "[1, 2]", "good": "a", "chosen": "x"},
        {"annotator": "bob", "source": "web", "votes": None, "good": "a", "chosen": None},
    ]
    assert report.unread == ("other",)


def test_a_column_to_keep_that_is_not_there_is_an_error_for_the_pairs_alone(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(PLAIN | {"annotator": "ann"}) + "\n")
    source, made = SourceConfig(str(tmp_path / "d.jsonl")), encoder(keep_columns=["anotator"])
    message = r"^data\.keep_columns: .*d\.jsonl has no column 'anotator'; it has prompt, chosen, rejected, annotator$"
    with pytest.raises(DataError, match=message):
        prepare_pairs(source, made, tmp_path / "a.arrow", "data.pairs")
    table, _ = prepare_pairs(source, made, tmp_path / "a.arrow", "data.heldout")
    assert table["carried.anotator"][:] == [None]

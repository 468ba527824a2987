"""Message trees as in OpenAssistant become rankings; what is left out is counted with its reason."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_tokenizers as tiny
from given_rows import assistant, user
from hypothesis import given
from hypothesis import strategies as st

from seralign.config import DataConfig, SourceConfig
from seralign.data.formats import read_example
from seralign.data.place import reading
from seralign.data.prepare import prepare_pairs, prepare_prompts
from seralign.data.raw import Drop
from seralign.data.readers.part import Located
from seralign.data.sources import Rows, load_rows
from seralign.data.tokens import make_encoder
from seralign.data.trees import read_forest
from seralign.errors import DataError
from seralign.records import Ranking

Row = dict[str, Any]


def message(name: str, parent: str | None, rank: int | None = None, tree: str = "t", **more: Any) -> Row:
    """A message whose name begins with its role: q asks, a answers."""
    role = "prompter" if name.startswith("q") else "assistant"
    return {"message_id": name, "parent_id": parent, "message_tree_id": tree, "role": role, "text": f"text of {name}",
            "rank": rank, "lang": "en", "deleted": False, "review_result": True} | more  # fmt: skip


TREE = [
    message("q1", None), message("a1", "q1", 1), message("a2", "q1", 0), message("a3", "q1", 2),
    message("q2", "a1"), message("a4", "q2", 0), message("a5", "q2", 1), message("q3", "a2"), message("a6", "q3", 0),
]  # fmt: skip


def load(folder: Path, rows: list[Row], **source: Any) -> Rows:
    path = folder / "trees.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_rows(SourceConfig(str(path), **source), "data.pairs")


def refusal(folder: Path, rows: list[Row]) -> str:
    with pytest.raises(DataError) as error:
        load(folder, rows)
    return str(error.value)


def by_id(rows: Rows) -> dict[str, Row]:
    return {row["pair_id"]: row for row in rows}


def test_each_message_of_a_prompter_is_a_row_with_the_conversation_up_to_it(tmp_path: Path) -> None:
    rows = load(tmp_path, TREE)
    assert len(rows) == 3
    assert rows.left_out == {}
    assert rows.column_names == ["lang", "messages", "responses", "ranks", "pair_id"]
    assert list(rows) == [
        {"lang": "en", "messages": [user("text of q1")], "pair_id": "q1",
         "responses": ["text of a1", "text of a2", "text of a3"], "ranks": [1, 0, 2]},
        {"lang": "en", "messages": [user("text of q1"), assistant("text of a1"), user("text of q2")], "pair_id": "q2",
         "responses": ["text of a4", "text of a5"], "ranks": [0, 1]},
        {"lang": "en", "messages": [user("text of q1"), assistant("text of a2"), user("text of q3")], "pair_id": "q3",
         "responses": ["text of a6"], "ranks": [0]},
    ]  # fmt: skip
    assert [where.rpartition("/")[2] for _, where in rows.located()] == [f"trees.jsonl row {n}" for n in (1, 5, 8)]


def test_a_row_reads_as_a_ranking_best_first(tmp_path: Path) -> None:
    read = [read_example(*located, reading(DataConfig(), "data.pairs")) for located in load(tmp_path, TREE).located()]
    first, second, third = read
    assert not isinstance(first, Drop)
    assert not isinstance(second, Drop)
    assert first.responses == tuple((assistant(f"text of {name}"),) for name in ("a2", "a1", "a3"))
    assert first.preference == Ranking((1, 2, 3))
    assert first.example_id == "q1"
    assert second.prompt == (user("text of q1"), assistant("text of a1"), user("text of q2"))
    assert second.responses == ((assistant("text of a4"),), (assistant("text of a5"),))
    assert isinstance(third, Drop)
    assert third.reason == "fewer than two responses"


@given(st.randoms(use_true_random=False), st.integers(0, 4))
def test_the_order_of_the_rows_does_not_matter(shuffled: random.Random, trees: int) -> None:
    rows = [
        row | {"message_id": f"{row['message_id']}-{tree}", "message_tree_id": str(tree),
               "parent_id": row["parent_id"] and f"{row['parent_id']}-{tree}"}
        for tree in range(trees + 1) for row in TREE
    ]  # fmt: skip
    shuffled.shuffle(rows)
    forest = read_forest(lambda: ((row, f"row {number}") for number, row in enumerate(rows)))
    found = {row["pair_id"]: row for row, _ in forest.rows()}
    assert len(found) == 3 * (trees + 1)
    for tree in range(trees + 1):
        answered = found[f"q1-{tree}"]
        order = [text for _, text in sorted(zip(answered["ranks"], answered["responses"], strict=True))]
        assert order == ["text of a2", "text of a1", "text of a3"]
        assert found[f"q2-{tree}"]["messages"][1] == assistant("text of a1")


def test_a_tree_is_given_as_soon_as_its_last_row_is_read() -> None:
    """So no more than the open trees is held."""
    replies = (("q", None, None), ("a1", "q", 0), ("a2", "q", 1))
    rows = [
        message(f"{name}-{tree}", parent and f"{parent}-{tree}", rank, str(tree))
        for tree in range(3)
        for name, parent, rank in replies
    ]
    given: list[int] = []

    def read() -> Iterator[Located]:
        for number, row in enumerate(rows):
            given.append(number)
            yield row, f"row {number}"

    forest = read_forest(read)
    given.clear()
    for tree, (row, _) in enumerate(forest.rows()):
        assert row["pair_id"] == f"q-{tree}"
        assert given[-1] == 3 * tree + 2


@pytest.mark.parametrize(
    ("changed", "left_out", "kept"),
    [
        ({"a2": {"deleted": True}}, {"deleted message": 1, "message below one that is left out": 2}, {"q1", "q2"}),
        ({"q1": {"review_result": False}}, None, set()),
        ({"a3": {"review_result": False}}, {"message that failed its review": 1}, {"q1", "q2", "q3"}),
        ({"a3": {"review_result": None}, "q3": {"deleted": None}}, {}, {"q1", "q2", "q3"}),
        ({"a1": {"rank": None}}, {"reply without a rank": 1}, {"q1", "q2", "q3"}),
        ({"q2": {"parent_id": "gone"}}, {"message whose parent is missing": 1, "message below one that is left out": 2},
         {"q1", "q3"}),
        ({"a1": {"parent_id": "q2"}}, {"message in a cycle of parents": 2, "message below one that is left out": 2},
         {"q1", "q3"}),
        ({"q2": {"parent_id": "q2"}}, {"message in a cycle of parents": 1, "message below one that is left out": 2},
         {"q1", "q3"}),
        ({"q2": {"role": "assistant"}},
         {"message of the same role as its parent, or first message of an assistant": 1,
          "message below one that is left out": 2}, {"q1", "q3"}),
        ({"a6": {"parent_id": None}}, {"message of the same role as its parent, or first message of an assistant": 1},
         {"q1", "q2", "q3"}),
    ],
)  # fmt: skip
def test_what_is_left_out_is_counted(
    tmp_path: Path, changed: dict[str, Row], left_out: dict[str, int] | None, kept: set[str]
) -> None:
    rows = [row | changed.get(row["message_id"], {}) for row in TREE]
    if left_out is None:
        assert refusal(tmp_path, rows).endswith(
            "trees.jsonl (data.pairs) has no message of a prompter that can be used: message below one that is left "
            "out 8, message that failed its review 1"
        )
        return
    loaded = load(tmp_path, rows)
    assert loaded.left_out == left_out
    assert by_id(loaded).keys() == kept


def test_the_parent_in_another_tree_is_missing(tmp_path: Path) -> None:
    loaded = load(tmp_path, [*TREE, message("a7", "q1", 3, tree="u")])
    assert loaded.left_out == {"message whose parent is missing": 1}
    assert len(loaded) == 3


@pytest.mark.parametrize(
    ("ranks", "changed", "given"),
    [
        ((0, 1, 2), {"a2": {"deleted": True}}, [0, 1]),
        ((0, 1, 2), {"a1": {"review_result": False}}, [0, 1]),
        ((0, 2, 3), {}, [0, 2, 3]),
        ((0, 2, 3), {"a2": {"deleted": True}}, [0, 3]),
        ((0, 0, 1), {}, [0, 0, 1]),
        ((0.0, 1.0, 2.0), {}, [0, 1, 2]),
    ],
)
def test_only_the_hole_of_a_reply_that_is_left_out_is_closed(
    tmp_path: Path, ranks: tuple[float, ...], changed: dict[str, Row], given: list[int]
) -> None:
    replies = [message(name, "q", rank) for name, rank in zip(("a1", "a2", "a3"), ranks, strict=True)]  # pyright: ignore
    loaded = load(tmp_path, [row | changed.get(row["message_id"], {}) for row in (message("q", None), *replies)])
    (row,) = loaded
    assert row["ranks"] == given
    read = read_example(row, "row", reading(DataConfig(), "data.pairs"))
    has_hole = given in ([0, 2, 3], [0, 3])
    assert (isinstance(read, Drop) and read.reason == "ranking with a hole in its ranks") == has_hole


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"message_id": "a1"}, "row 10: message_id 'a1' is already that of {path} row 2; it must be unique"),
        ({"message_id": None}, "row 10: message_id must be text, got null; each row must be a message of a tree"),
        ({"message_tree_id": 7}, "row 10: message_tree_id must be text, got int '7'; each row must be"),
        ({"role": "system"}, "row 10: role must be prompter or assistant, got str 'system'"),
        ({"parent_id": 3}, "row 10: parent_id must be text, or null for the first message of a tree, got int '3'"),
        ({"text": None}, "row 10: text must be text, got null"),
        ({"rank": -1}, "row 10: rank must be a rank, a whole number with the best lowest, got -1"),
        ({"rank": 0.5}, "row 10: rank must be a rank, a whole number with the best lowest, got 0.5"),
        ({"rank": "first"}, "row 10: rank must be a finite number, got str 'first'"),
        ({"deleted": "perhaps"}, "row 10: deleted must be true, false or null, got str 'perhaps'"),
        ({"review_result": 2}, "row 10: review_result must be true, false or null, got int '2'"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(tmp_path: Path, bad: Row, said: str) -> None:
    path = tmp_path / "trees.jsonl"
    assert refusal(tmp_path, [*TREE, message("a9", "q1", 3) | bad]).startswith(f"{path} {said.format(path=path)}")


def test_a_deleted_message_needs_no_text(tmp_path: Path) -> None:
    loaded = load(tmp_path, [*TREE, message("a9", "q1", 3, text=None, deleted=True)])
    assert loaded.left_out == {"deleted message": 1}
    assert len(loaded) == 3


def test_a_long_conversation_is_read_without_recursion(tmp_path: Path) -> None:
    names = [f"{'qa'[turn % 2]}{turn}" for turn in range(1200)]
    rows = [message(name, parent, 0) for name, parent in zip(names, [None, *names], strict=False)]
    loaded = load(tmp_path, rows[::-1], limit=1)
    (row,) = loaded
    assert len(row["messages"]) == 1199
    assert row["messages"][-1] == user("text of q1198")


def test_limit_counts_prompts_and_cuts_no_tree(tmp_path: Path) -> None:
    other = [message(f"{name}x", parent, rank, "u") for name, parent, rank in
             (("q", None, None), ("a1", "qx", 0), ("a2", "qx", 1), ("a3", "gone", 1))]  # fmt: skip
    loaded = load(tmp_path, [*TREE, *other], limit=2)
    assert [row["pair_id"] for row in loaded] == ["q1", "q2"]
    assert len(loaded) == 2
    assert loaded[0]["ranks"] == [1, 0, 2]
    assert loaded.left_out == {}
    assert load(tmp_path, [*TREE, *other]).left_out == {"message whose parent is missing": 1}


def test_columns_can_be_renamed_and_a_tree_may_go_across_files(tmp_path: Path) -> None:
    for name, rows in (("a", TREE[:4]), ("b", TREE[4:])):
        renamed = [{("id" if key == "message_id" else key): value for key, value in row.items()} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed))
    source = SourceConfig([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], columns={"message_id": "id"})
    assert [row["pair_id"] for row in load_rows(source, "data.pairs")] == ["q1", "q2", "q3"]


def test_csv_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    expected = list(load(tmp_path, TREE))
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(TREE[0]))
        writer.writeheader()
        writer.writerows(TREE)
    pq.write_table(pa.Table.from_pylist(TREE), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert list(load_rows(SourceConfig(str(tmp_path / name)), "data.pairs")) == expected


def test_rankings_and_counts_of_a_whole_source(tmp_path: Path) -> None:
    rows = [*TREE, message("a7", "q3"), message("a8", "q3", 1, deleted=True)]
    load(tmp_path, rows)
    source = SourceConfig(str(tmp_path / "trees.jsonl"))
    made = make_encoder(tiny.byte_bpe(tiny.CHATML, eos="<|im_end|>"), DataConfig(keep_columns=["lang"]), frozenset())
    table, figures = prepare_pairs(source, made, tmp_path / "a.arrow", "data.pairs")
    assert table["example_id"] == ["q1", "q2"]
    assert table["carried.lang"] == ["en", "en"]
    assert figures.read == 5
    assert figures.kept == 2
    assert figures.dropped == {"reply without a rank": 1, "deleted message": 1, "fewer than two responses": 1}
    prompts, figures = prepare_prompts(source, made, tmp_path / "b.arrow", "data.prompts")
    assert len(prompts) == 3
    assert figures.dropped == {"deleted message": 1}

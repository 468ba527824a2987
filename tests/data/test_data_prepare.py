"""A file becomes a table of tokenized pairs; every row is kept, counted, or named in an error."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tokenizers as tiny
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.config import DataConfig, SourceConfig
from seralign.data.prepare import (
    heldout_rows,
    prepare_demonstrations,
    prepare_pairs,
    prepare_prompts,
)
from seralign.data.table import PROMPT_SCHEMA, read_table, to_example, to_prompt, write_examples, write_prompts_of
from seralign.data.tally import HH_ON_CHAT, PLAIN_ON_CHAT
from seralign.data.tokens import Encoder, make_encoder
from seralign.errors import DataError
from seralign.pipeline.remarks import remarks
from seralign.records import OFFLINE, Demonstration, Example, Pair, Prompt, Response, content_id
from seralign.runs.data_figures import Lengths, SourceFigures
from seralign.runs.examples import EXAMPLE_SCHEMA
from seralign.runs.typed import from_json, to_json

ALPACA = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval_pairs.jsonl.gz"


def encoder(template: str | None = None, **data: Any) -> Encoder:
    return make_encoder(tiny.byte_bpe(template), DataConfig(**data), frozenset())


def prepare(folder: Path, rows: list[dict], made: Encoder | None = None) -> tuple[Dataset, SourceFigures]:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prepare_pairs(SourceConfig(str(path)), made or encoder(), folder / "pairs.arrow", "data.pairs")


def row(prompt: str, chosen: str, rejected: str, **more: Any) -> dict:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


MIXED = [
    row("q", "yes", "no", p=0.75, weight=2.0, pair_id="mine"),
    row("q", "no", "yes", p=0.25),
    row("q", "same", "same"),
    row("r", "a", "b", p=0.5),
    row("r", "", "b"),
    row("r", "yes", "no"),
    row("r", "yes", "no"),
    row("r", "yes", "yes yes"),
]


def test_every_row_is_kept_or_counted(tmp_path: Path) -> None:
    table, report = prepare(tmp_path, MIXED)
    assert table.data.schema == EXAMPLE_SCHEMA
    pairs = [to_example(item) for item in table]
    yes = content_id(["q", "yes", "no"])
    again = content_id(["r", "yes", "no"])
    assert [pair.example_id for pair in pairs] == [
        "mine",
        yes,
        again,
        f"{again}-2",
        content_id(["r", "yes", "yes yes"]),
    ]
    assert [pair.preference for pair in pairs] == [Pair(0.75), Pair(0.75), Pair(), Pair(), Pair()]
    assert [pair.weight for pair in pairs] == [2.0, 1.0, 1.0, 1.0, 1.0]
    assert {pair.origin for pair in pairs} == {OFFLINE}
    tokenizer = encoder().tokenizer
    q, eos = tokenizer("q")["input_ids"], tokenizer.eos_token_id
    responses = [Response(text, (*tokenizer(text)["input_ids"], eos)) for text in ("yes", "no")]
    assert pairs[1] == Example(yes, Prompt(content_id(q), "q", tuple(q)), tuple(responses), Pair(0.75))
    assert (report.read, report.kept, report.soft) == (8, 5, 0.4)
    assert report.dropped == {"identical responses": 1, "tie": 1, "empty response": 1}
    assert report.noted == {"swapped": 1, "duplicate": 1, "one response starts the other": 1}
    assert {what: where.rpartition(" row ")[2] for what, where in report.first.items()} == {
        "identical responses": "3", "tie": "4", "empty response": "5",
        "swapped": "2", "duplicate": "7", "one response starts the other": "8",
    }  # fmt: skip
    assert report.located({"tie": 1, "other": 2}) == {f"tie (first {tmp_path / 'd.jsonl'} row 4)": 1, "other": 2}
    assert report.lengths["prompt"] == Lengths(1, 1.0, 1.0, 1)
    assert from_json(SourceFigures, json.loads(json.dumps(to_json(report)))) == report


def test_lengths_are_summed_up(tmp_path: Path) -> None:
    # One byte is one token in "0" to "9": chosen responses of 1 … 20 tokens and the end token.
    rows = [row("q", "0" * size, "1") for size in range(1, 21)]
    _, report = prepare(tmp_path, rows)
    assert report.lengths["chosen"] == Lengths(2, 11.5, 20.05, 21)
    assert report.lengths["rejected"] == Lengths(2, 2.0, 2.0, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("q", "a", "b"), row("q", "a", "b", p=2)], "d.jsonl row 2: p must be"),
        ([row("q", "a", "b"), row("q", "a", 5)], "d.jsonl row 2: rejected must be text"),
        ([row("q", "a", "b", pair_id="x"), row("r", "a", "b"), row("s", "a", "b", pair_id="x")],
         "d.jsonl row 3: pair_id 'x' is already used by .*d.jsonl row 1"),
        ([row("q", "a", "a"), row("q", "a", "b", p=0.5), row("r", "b", "b")],
         r"d.jsonl: none of its 3 rows can be used: 2 identical responses \(first .*d.jsonl row 1\), "
         r"1 tie \(first .*d.jsonl row 2\)$"),
    ],
)  # fmt: skip
def test_errors_name_the_row(tmp_path: Path, rows: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, rows)


def test_a_row_beyond_the_first_chunk_is_named_by_its_own_number(tmp_path: Path) -> None:
    rows = [row(f"q{i}", "a", "b") for i in range(2100)]
    table, report = prepare(tmp_path, rows)
    assert (len(table), report.kept) == (2100, 2100)
    assert table[2050]["prompt"] == "q2050"
    rows[2050]["p"] = -1.0
    with pytest.raises(DataError, match=r"d.jsonl row 2051: p must be"):
        prepare(tmp_path, rows)


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 3, st.sampled_from([0.1, 0.9])), min_size=1), st.randoms())
def test_the_order_of_rows_changes_no_id(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple], order: random.Random
) -> None:
    rows = [row(*cell[:3], p=cell[3]) for cell in cells] + [row("q", "yes", "no")]
    shuffled = order.sample(rows, len(rows))
    tables = [prepare(tmp_path_factory.mktemp("t"), some)[0] for some in (rows, shuffled)]
    first, second = ({item["example_id"]: (item["prompt"], item["responses"]) for item in table} for table in tables)
    assert first == second
    assert len(first) == len(tables[0])


def test_columns_that_no_row_is_read_from_are_listed(tmp_path: Path) -> None:
    rows = [row("q", "a", "b", source="s", empty=None), row("r", "a", "b", p=0.9, score=1, p_b=0.5)]
    _, report = prepare(tmp_path, rows)
    assert report.unread == ("source", "empty", "score", "p_b")
    assert remarks("pairs", report) == ["data.pairs: columns not read: source, empty, score, p_b"]
    with pytest.raises(DataError, match=r"none of its 1 rows can be used: 1 no prompt column and .* not read: frage$"):
        prepare(tmp_path, [{"frage": "q", "chosen": "a", "rejected": "b"}])


def test_plain_text_on_a_tokenizer_with_a_chat_template_is_remarked(tmp_path: Path) -> None:
    rows = [row("q", "a", "b")]
    assert prepare(tmp_path, rows)[1].remarks == ()
    template = encoder(tiny.CHATML)
    _, report = prepare(tmp_path, rows, template)
    assert remarks("pairs", report) == [
        "data.pairs: the tokenizer's chat template is not used for plain text "
        "(set data.as_chat: true to make conversations of it)"
    ]
    assert prepare(tmp_path, rows, encoder(tiny.CHATML, as_chat=True))[1].remarks == ()
    turns = {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}
    assert prepare(tmp_path, [turns], template)[1].remarks == ()
    whole = row("\n\nHuman: q\n\nAssistant:", " a", " b")
    assert prepare(tmp_path, [whole], template)[1].remarks == (HH_ON_CHAT,)
    assert prepare(tmp_path, [*rows, whole], template)[1].remarks == (HH_ON_CHAT, PLAIN_ON_CHAT)
    assert prepare(tmp_path, [whole], encoder(tiny.CHATML, format="hh"))[1].remarks == ()


def test_a_row_that_lost_its_prompt_is_not_given_another(tmp_path: Path) -> None:
    answers = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
    with pytest.raises(DataError, match=r"row 2: prompt must be text .* got null"):
        prepare(tmp_path, [row("q", "a", "b"), answers])


def test_text_and_conversations_may_stand_in_one_column(tmp_path: Path) -> None:
    turns = {
        "prompt": [{"role": "human", "content": "q"}],
        "chosen": '[{"role": "user", "content": "x"}]',
        "rejected": "4",
    }
    made = make_encoder(tiny.byte_bpe(tiny.CHATML, eos="<|im_end|>"), DataConfig(as_chat=True), frozenset())
    table, report = prepare(tmp_path, [row("q", "a", "b"), turns], made)
    assert table["prompt"][0] == table["prompt"][1]
    assert [responses[0] for responses in table["responses"]] == ["a", turns["chosen"]]
    assert report.noted == {"role mapped": 1, "response that is a conversation stored as a string": 1}


def test_conversations_with_several_turns(tmp_path: Path) -> None:
    turns = [{"role": r, "content": c} for r, c in [("user", "hi"), ("assistant", "hello"), ("user", "sky?")]]
    answers = [[*turns, {"role": "assistant", "content": text}] for text in ("blue", "green")]
    made = make_encoder(tiny.byte_bpe(tiny.CHATML, eos="<|im_end|>"), DataConfig(system="Be kind."), frozenset())
    table, _ = prepare(tmp_path, [{"chosen": answers[0], "rejected": answers[1]}], made)
    [pair] = [to_example(item) for item in table]
    assert f"{made.tokenizer.decode(pair.prompt.ids)} ‖ {made.tokenizer.decode(pair.responses[0].ids)}" == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n ‖ blue<|im_end|>"
    )
    # The system message is the run's, not the row's: the identity does not know it.
    assert pair.example_id == content_id([turns, answers[0][3:], answers[1][3:]])
    assert json.loads(pair.prompt.messages or "") == [{"role": "system", "content": "Be kind."}, *turns]
    assert pair.prompt.template_inputs is None


def test_prompts_are_unique(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ["a", "b", "a"]))
    source = SourceConfig(str(tmp_path / "d.jsonl"))
    table, report = prepare_prompts(source, encoder(), tmp_path / "prompts.arrow", "data.prompts")
    assert table.data.schema == PROMPT_SCHEMA
    ids = encoder().tokenizer("b")["input_ids"]
    assert [item["text"] for item in table] == ["a", "b"]
    assert to_prompt(table[1]) == Prompt(content_id(ids), "b", tuple(ids))
    assert (report.read, report.kept, report.dropped, list(report.lengths)) == (3, 2, {"duplicate": 1}, ["prompt"])


def test_demonstrations_have_one_response_and_no_preference(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"prompt": "q", "response": "yes", "weight": 0.5}) + "\n")
    source = SourceConfig(str(tmp_path / "d.jsonl"))
    table, report = prepare_demonstrations(source, encoder(), tmp_path / "d.arrow", "data.demonstrations")
    [pair] = [to_example(item) for item in table]
    assert ([response.text for response in pair.responses], pair.preference, pair.weight) == (
        ["yes"],
        Demonstration(),
        0.5,
    )
    assert pair.example_id == content_id(["q", "yes"])
    assert (list(report.lengths), report.soft) == (["prompt", "response"], 0.0)


def test_pairs_among_demonstrations_are_an_error(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response": "yes"}, row("q", "a", "b")]
    for path, those, kinds in (("d", rows, ("a pair", "not a pair")), ("e", rows[::-1], ("not a pair", "a pair"))):
        file = tmp_path / f"{path}.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in those))
        with pytest.raises(DataError) as caught:
            prepare_demonstrations(SourceConfig(str(file)), encoder(), tmp_path / path, "data.demonstrations")
        assert str(caught.value).startswith(f"{file} row 2: this row is {kinds[0]}, and {file} row 1 is {kinds[1]}; ")


def test_tables_come_back_as_written_also_empty(tmp_path: Path) -> None:
    prompts = [Prompt(f"q{i}", "a", (1,), '[{"role": "user", "content": "a"}]' if i else None) for i in range(3)]
    responses = (Response("b", (2, 3)), Response("c", ()))
    carried = {"annotator": "me", "seen": None}
    pairs = [Example(f"p{i}", prompts[i % 3], responses, Pair(0.7), 2.0, "generated:2", carried) for i in range(1500)]
    assert write_examples(tmp_path / "a.arrow", iter(pairs), ("annotator", "seen")) == 1500
    table = read_table(tmp_path / "a.arrow")
    assert [to_example(item) for item in table] == pairs
    write_prompts_of(tmp_path / "prompts.arrow", table)
    assert [to_prompt(item) for item in read_table(tmp_path / "prompts.arrow")] == prompts
    assert table.cache_files == [{"filename": str(tmp_path / "a.arrow")}]
    assert write_examples(tmp_path / "b.arrow", []) == 0
    empty = read_table(tmp_path / "b.arrow")
    assert (len(empty), empty.data.schema) == (0, EXAMPLE_SCHEMA)


def table_of(prompts: list[str]) -> Dataset:
    return Dataset.from_dict({"example_id": [f"{p}/{i}" for i, p in enumerate(prompts)], "prompt_id": prompts})


@given(
    st.lists(st.sampled_from([f"q{i}" for i in range(12)]), min_size=1, max_size=40),
    st.floats(0, 0.99),
    st.integers(0, 5),
    st.randoms(),
)
def test_held_out_prompts_are_on_one_side(prompts: list[str], fraction: float, seed: int, order: random.Random) -> None:
    held_out = heldout_rows(table_of(prompts), fraction, seed).tolist()
    sides = [{prompt for prompt, is_out in zip(prompts, held_out, strict=True) if is_out == side} for side in (0, 1)]
    assert not sides[0] & sides[1]
    different = len(set(prompts))
    assert sides[0]
    assert bool(sides[1]) == (fraction > 0 and different > 1)
    assert abs(len(sides[1]) - fraction * different) <= 1
    shuffled = order.sample(prompts, len(prompts))
    again = heldout_rows(table_of(shuffled), fraction, seed)
    assert {shuffled[row] for row in np.flatnonzero(again)} == sides[1]


def test_the_seed_chooses_who_is_held_out() -> None:
    table = table_of([f"q{i}" for i in range(100)])
    splits = {tuple(heldout_rows(table, 0.1, seed).tolist()) for seed in range(5)}
    assert len(splits) == 5
    assert {sum(split) for split in splits} == {10}


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Four times the rows, at 1,000 tokens each, take no more memory: of Arrow's, which is not Python's, to the byte,
    and of the process as far as it can be told."""
    sizes = (1000, 4000)
    for size in sizes:
        rows = (row(f"q{index}", "0" * 500, "1" * 500) for index in range(size))
        (tmp_path / f"{size}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *(str(tmp_path / f"{size}.jsonl") for size in sizes)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    less, more = (dict(zip(("process", "arrow", "held", "table"), map(int, line.split()), strict=True))
                  for line in done.stdout.splitlines())  # fmt: skip
    added = more["table"] - less["table"]
    assert added > 12e6, "3,000 rows of 1,000 ids of 4 bytes, and their text"
    assert more["arrow"] - less["arrow"] < added / 20
    assert more["held"] < added / 20
    assert more["process"] - less["process"] < added


# VmHWM is the most memory that the process ever had, in kB. The table is mapped, and not read here.
PEAK = """
import sys
from pathlib import Path
import pyarrow as pa
import tiny_tokenizers as tiny
from seralign.config import DataConfig, SourceConfig
from seralign.data.prepare import prepare_pairs
from seralign.data.tokens import make_encoder
encoder = make_encoder(tiny.byte_bpe(None), DataConfig(), frozenset())
for path in sys.argv[1:]:
    table, _ = prepare_pairs(SourceConfig(path), encoder, path + ".arrow", "data.pairs")
    most = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    pool = pa.default_memory_pool()
    print(int(most) * 1024, pool.max_memory(), pool.bytes_allocated(), Path(path + ".arrow").stat().st_size)
"""


@pytest.mark.skipif(not ALPACA.exists(), reason=f"real preference data are not at {ALPACA}")
def test_real_soft_labels(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.jsonl.gz"
    with gzip.open(ALPACA, "rt") as stream:
        lines = list(islice(stream, 200))
    with gzip.open(path, "wt") as stream:
        stream.writelines(lines)
    rows = [json.loads(line) for line in lines]
    made = encoder(max_length=100_000)
    table, report = prepare_pairs(SourceConfig(str(path)), made, tmp_path / "pairs.arrow", "data.pairs")
    labels = {(item["prompt"], item["response_a"], item["response_b"]): item["p_b"] for item in rows}
    turned = 0
    for item in table:
        first, second = item["responses"]
        straight, other = (labels.get((item["prompt"], *sides)) for sides in ((first, second), (second, first)))
        assert (straight is None) != (other is None)
        assert item["preference"][0] == pytest.approx(1 - straight if other is None else other, abs=1e-12)
        assert item["preference"][0] > 0.5
        turned += straight is None
    assert report.noted.get("swapped") == turned == sum(p_b > 0.5 for p_b in labels.values())
    assert report.read == 200 == report.kept + sum(report.dropped.values())
    assert report.kept > 190
    assert report.soft == sum(p < 1 for p, _ in table["preference"]) / report.kept

    window = encoder(max_length=256)
    table, report = prepare_pairs(SourceConfig(str(path)), window, tmp_path / "cut.arrow", "data.pairs")
    assert max(len(item["prompt_ids"]) + len(item["response_ids"][0]) for item in table) == 256
    assert report.noted["response cut"] > 100
    assert all(min(map(len, item["response_ids"])) > 0 for item in table)

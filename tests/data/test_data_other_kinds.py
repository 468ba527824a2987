"""Rows of kinds that are not ours are named as what they are, and not read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from given_rows import PLAIN, assistant, pair, user

from seralign.config import DataConfig, SourceConfig
from seralign.data.formats import read_demonstration
from seralign.data.kinds import kind_of
from seralign.data.place import Place, reading
from seralign.data.raw import Drop
from seralign.data.sources import load_rows
from seralign.errors import ConfigError, DataError

SYSTEM = {"role": "system", "content": "S"}


@pytest.mark.parametrize(
    "tag", [{"kto_tag": False}, {"kto_tag": "no"}, {"desirable": True}, {"desirable": 0}, {"label": "bad"}]
)
def test_unpaired_labels_of_any_name_are_no_demonstrations(tag: dict[str, Any]) -> None:
    (name,) = tag
    for row in ({"prompt": "Q", "completion": "a", **tag}, {"messages": [user("Q"), assistant("a")], **tag}):
        with pytest.raises(DataError, match=f"f row 1: {name} is true or false, so the row is an unpaired preference"):
            read_demonstration(row, "f row 1")


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ({"helpfulness": 3, "correctness": 4, "note": "x"}, "helpfulness, correctness"),
        ({"score": "8.5"}, "score"),
        ({"ratings": [4, 5]}, "ratings"),
        ({"scores": {"style": 1.0}}, "scores"),
    ],
)
@pytest.mark.parametrize("answer", [{"prompt": "Q", "response": "a"}, {"messages": [user("Q"), assistant("a")]}])
def test_scores_of_a_single_answer_are_no_demonstration(
    answer: dict[str, Any], scores: dict[str, Any], named: str
) -> None:
    says = rf"f row 1: a single answer with scores \({named}\) as in HelpSteer, not a demonstration"
    with pytest.raises(DataError, match=says):
        read_demonstration({**answer, **scores}, "f row 1")
    assert kind_of({**answer, **scores}, Place("f row 1", reading(DataConfig(), "data.pairs"))) == "pairs"


@pytest.mark.parametrize("other", [{"score": None}, {"score": "high"}, {"rating": True}, {"scores": []}, {"rank": 1}])
def test_a_column_that_holds_no_score_is_only_not_read(other: dict[str, Any]) -> None:
    raw = read_demonstration({"prompt": "Q", "response": "a", **other}, "f row 1")
    assert not isinstance(raw, Drop)
    assert (raw.responses, raw.unread) == (("a",), tuple(other))


def test_a_pair_with_scores_is_a_pair() -> None:
    assert pair({**PLAIN, "score": 4.0, "rating": "3"}).unread == ("score", "rating")


@pytest.mark.parametrize(("better", "answers"), [(0, ("x", "y")), (1, ("y", "x")), ("1", ("y", "x"))])
def test_pku_saferlhf_is_a_pair(better: Any, answers: tuple[str, str]) -> None:
    row = {"prompt": "Q", "response_0": "x", "response_1": "y", "better_response_id": better, "safer_response_id": 0}
    assert kind_of(row, Place("f row 1", reading(DataConfig(), "data.pairs"))) == "pairs"
    raw = pair(row)
    assert (raw.prompt, raw.responses, raw.unread) == ("Q", answers, ("safer_response_id",))


@pytest.mark.parametrize("better", [2, None, True, "a"])
def test_pku_saferlhf_needs_the_number_of_an_answer(better: Any) -> None:
    with pytest.raises(DataError, match="better_response_id must be 0 or 1, got"):
        pair({"prompt": "Q", "response_0": "x", "response_1": "y", "better_response_id": better})


def test_several_answers_of_another_format_are_no_prompt() -> None:
    row = {"prompt": "Q", "response_1": "x", "response_2": "y", "preference_strength": -2}
    with pytest.raises(DataError, match="response_1, response_2 are several answers to one prompt as in HelpSteer"):
        kind_of(row, Place("f row 1", reading(DataConfig(), "data.pairs")))


@pytest.mark.parametrize(
    "text",
    [
        '[{"content": "' + 3000 * "x" + '", "role": "user"}]',
        '[{"role": "client", "content": "Hi"}]',
        '"[{\\"role\\": \\"user\\", \\"content\\": \\"Hi\\"}]"',
        '[["user", "Hi"], ["assistant", "Yo"]]',
    ],
    ids=["far", "mapped", "twice", "pairs"],
)
def test_conversations_stored_as_strings_in_other_ways_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="prompt is a string that holds a conversation"):
        pair({**PLAIN, "prompt": text}, roles={"client": "user"})


@pytest.mark.parametrize("text", ['"Hi"', '"role"', '[["a", "b"]]', '["user", "x"]', '[["user"]]'])
def test_other_json_in_lists_and_quotation_marks_is_text(text: str) -> None:
    assert pair({**PLAIN, "prompt": text}).prompt == text


def test_a_column_of_messages_that_is_text_says_that_it_is_stored_as_a_string() -> None:
    row = {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'}
    with pytest.raises(DataError, match=r"messages is a string that holds a conversation.*as a list of messages"):
        read_demonstration(row, "f row 1")


def test_conversations_may_begin_with_the_system_message_and_history_of_other_columns() -> None:
    before = [SYSTEM, user("x"), assistant("y")]
    columns = {"system": "S", "history": [["x", "y"]]}
    whole = [[*before, user("Q"), assistant(text)] for text in "ab"]
    raw = pair({"prompt": [user("Q")], **columns, "chosen": whole[0], "rejected": whole[1]})
    assert raw.prompt == (*before, user("Q"))
    assert raw.responses == ((assistant("a"),), (assistant("b"),))


@pytest.mark.parametrize("begin", [[], [SYSTEM]])
def test_a_history_that_the_prompt_begins_with_is_not_repeated(begin: list[Any]) -> None:
    prompt = [*begin, user("x"), assistant("y"), user("Q")]
    raw = pair({"prompt": prompt, "history": [["x", "y"]], "system": "S", "chosen": "a", "rejected": "b"})
    assert raw.prompt == (SYSTEM, user("x"), assistant("y"), user("Q"))


def test_a_truth_value_as_text_is_no_setting() -> None:
    settings = {"enable_thinking": "false"}
    with pytest.raises(DataError, match=r"chat_template_kwargs.enable_thinking is the text 'false'"):
        pair({"prompt": [user("Q")], "chosen": "a", "rejected": "b", "chat_template_kwargs": settings})
    with pytest.raises(ConfigError, match=r"chat_template_kwargs.enable_thinking is the text 'false'"):
        DataConfig(chat_template_kwargs=settings)


def test_mappings_of_columns_that_cannot_be_meant_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": "Q", "chosen": "a", "rejected": "b"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data.pairs.columns.prompt: the column chosen is used twice"):
        load_rows(SourceConfig(str(path), columns={"prompt": "chosen"}), "data.pairs")
    with pytest.raises(ConfigError, match="unknown column 'promt'; did you mean prompt"):
        load_rows(SourceConfig(str(path), columns={"promt": "x"}), "data.pairs")
    swapped = load_rows(SourceConfig(str(path), columns={"chosen": "rejected", "rejected": "chosen"}), "data.pairs")
    assert (swapped[0]["chosen"], swapped[0]["rejected"]) == ("b", "a")

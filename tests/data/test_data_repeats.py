"""A prompt that the responses repeat is the prompt, and no part of what is learned."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.config import DataConfig
from seralign.data.formats import read_demonstration, read_pair
from seralign.data.place import reading
from seralign.data.raw import RawExample

TAKEN = ("prompt removed from responses that repeat it",)
ONCE = ("only one response begins with the prompt",)


def pair(prompt: Any, chosen: str, rejected: str, **data: Any) -> RawExample:
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    raw = read_pair(row, "f row 1", reading(DataConfig(**data), "data.pairs"))
    assert isinstance(raw, RawExample), raw
    return raw


def message(role: str, content: str) -> tuple[dict[str, str], ...]:
    return ({"role": role, "content": content},)


def test_a_repeated_prompt_is_taken_off_text() -> None:
    raw = pair("Q: 2+2?\nA:", "Q: 2+2?\nA: 4", "Q: 2+2?\nA: 5")
    assert (raw.prompt, raw.responses, raw.notes) == ("Q: 2+2?\nA:", (" 4", " 5"), TAKEN)
    assert pair("Name two large cities", "Name two large cities\nRome", "Name two large cities\n").responses == (
        "\nRome",
        "\n",
    )


@pytest.mark.parametrize("prompt", ["2+2?", list(message("user", "2+2?"))])
def test_a_repeated_prompt_is_taken_off_the_answers_of_a_conversation(prompt: Any) -> None:
    raw = pair(prompt, "2+2?\n4", "2+2? 5", as_chat=True)
    assert raw.prompt == message("user", "2+2?")
    assert (raw.responses, raw.notes) == ((message("assistant", "4"), message("assistant", "5")), TAKEN)


def test_a_repeated_prompt_is_taken_off_hh_text() -> None:
    raw = pair("2+2?", "2+2? 4", "2+2? 5", format="hh")
    assert raw.prompt == message("user", "2+2?")
    assert raw.responses == (message("assistant", "4"), message("assistant", "5"))
    assert raw.notes == TAKEN


def test_a_prompt_that_one_response_repeats_is_noted() -> None:
    raw = pair("Q: 2+2?\nA:", "Q: 2+2?\nA: 4", " 5")
    assert (raw.responses, raw.notes) == (("Q: 2+2?\nA: 4", " 5"), ONCE)


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [("Hello", "Hello! How are you?", "Hello, what?"), ("Once upon a time in Rom", "Once upon a time in Rome", "x"),
     ("a", "and", "any")],
)  # fmt: skip
def test_an_answer_may_begin_with_the_words_of_a_prompt(prompt: str, chosen: str, rejected: str) -> None:
    raw = pair(prompt, chosen, rejected)
    assert (raw.responses, raw.notes) == ((chosen, rejected), ())


def test_a_demonstration_may_repeat_its_prompt_too() -> None:
    raw = read_demonstration({"prompt": "Q: 2+2?\nA:", "response": "Q: 2+2?\nA: 4"}, "f row 1")
    assert isinstance(raw, RawExample)
    assert (raw.responses, raw.notes) == ((" 4",), TAKEN)

"""Rows as people have them: messages, roles, columns that belong to the prompt, formats of other tools."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from given_rows import CHAT, PLAIN, assistant, pair, refusal, user

from seralign.config import DataConfig
from seralign.data.content import Inputs
from seralign.data.formats import read_demonstration, read_pair, read_prompt
from seralign.data.markers import hh_turns, other_turn
from seralign.data.place import reading
from seralign.data.raw import Drop, RawExample
from seralign.errors import ConfigError
from seralign.records import Pair

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("Human", "user"), ("human", "user"), ("prompter", "user"), ("gpt", "assistant"), ("Assistant", "assistant"),
     ("model", "assistant"), ("bot", "assistant"), ("SYSTEM", "system"), ("observation", "tool"),
     ("tool_response", "tool"), ("function-response", "tool")],
)  # fmt: skip
def test_roles_by_other_names_are_mapped_and_noted(theirs: str, ours: str) -> None:
    raw = pair({**CHAT, "prompt": [{"role": theirs, "content": "x"}, user("Q")]})
    assert raw.prompt == ({"role": ours, "content": "x"}, user("Q"))
    assert raw.notes == ("role mapped",)
    assert pair(CHAT).notes == ()


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function", "ipython"])
def test_known_roles_stand_as_they_are(role: str) -> None:
    raw = pair({**CHAT, "prompt": [{"role": role, "content": "x"}, user("Q")]})
    assert (raw.prompt[0], raw.notes) == ({"role": role, "content": "x"}, ())


def test_unknown_roles_are_refused_or_mapped_by_the_configuration() -> None:
    row = {**CHAT, "prompt": [user("x"), {"role": "critic", "content": "no"}, user("Q")]}
    message = refusal(row)
    assert "message 2 of prompt has the unknown role 'critic'" in message
    assert "data.roles: {critic: user}" in message
    assert pair(row, roles={"critic": "user"}).prompt[1] == user("no")
    assert pair(row, roles={"critic": "critic"}).prompt[1]["role"] == "critic"  # pyright: ignore
    with pytest.raises(ConfigError, match=r"roles\.critic"):
        DataConfig(roles={"critic": "judge"})


def test_a_message_alone_is_a_list_of_one() -> None:
    assert pair({"prompt": user("Q"), "chosen": assistant("a"), "rejected": assistant("b")}) == pair(CHAT)


@pytest.mark.parametrize("name", ["conversations", "messages", "prompt"])
def test_sharegpt(name: str) -> None:
    raw = pair(
        {
            name: [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        }
    )
    assert raw.prompt == ({"role": "system", "content": "S"}, user("Q"))
    assert (raw.responses[0], raw.responses[1]) == ((assistant("a"),), (assistant("b"),))
    assert raw.unread == ()


def test_sharegpt_demonstrations_and_prompts() -> None:
    row = {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "a"}]}
    shown = read_demonstration(row, "f row 1")
    assert not isinstance(shown, Drop)
    assert (shown.prompt, shown.responses[0]) == ((user("Q"),), (assistant("a"),))
    prompt = read_prompt(row, "f row 1")
    assert not isinstance(prompt, Drop)
    assert prompt.prompt == (user("Q"),)


@pytest.mark.parametrize("rejected", ["b", assistant("b"), [assistant("b")]])
def test_a_conversation_that_ends_with_the_chosen_answer(rejected: Any) -> None:
    row = {"messages": [user("Q"), assistant("a")], "rejected": rejected}
    read = pair(row)
    assert (read.prompt, *read.responses) == ((user("Q"),), (assistant("a"),), (assistant("b"),))
    assert (read.unread, read.preference) == ((), Pair())
    demonstration = read_demonstration(row, "f row 1")
    assert isinstance(demonstration, RawExample)
    assert (demonstration.prompt, demonstration.responses[0]) == ((user("Q"),), (assistant("a"),))
    assert "the columns are messages, rejected" in refusal({"messages": [user("Q")], "rejected": "b"})


def test_openai_preference_format() -> None:
    row = {
        "input": {"messages": [user("Q")], "tools": [WEATHER], "parallel_tool_calls": True},
        "preferred_output": [assistant("a")],
        "non_preferred_output": [assistant("b")],
    }
    raw = pair(row)
    assert (raw.prompt, *raw.responses) == ((user("Q"),), (assistant("a"),), (assistant("b"),))
    assert raw.inputs == Inputs(tools=(WEATHER,))
    assert raw.unread == ("input.parallel_tool_calls",)
    assert "input must be an object with messages" in refusal({**row, "input": "Q"})


def test_ultrafeedback() -> None:
    both = [[user("Q"), assistant(text)] for text in "ab"]
    row = {"prompt": "Q", "prompt_id": "x", "chosen": both[0], "rejected": both[1], "messages": both[0], "score": 8.0}
    raw = pair(row)
    assert (raw.prompt, *raw.responses) == ((user("Q"),), (assistant("a"),), (assistant("b"),))
    assert raw.unread == ("prompt_id", "messages", "score")


@pytest.mark.parametrize("content", [None, ..., ""])
def test_a_call_of_a_tool_needs_no_content(content: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    message = {"role": "assistant", "content": content, "tool_calls": [call]}
    if content is ...:
        del message["content"]
    raw = pair({**CHAT, "prompt": [user("Q"), message, {"role": "tool", "content": "sunny"}], "chosen": [message]})
    assert raw.prompt[1] == raw.responses[0][0] == assistant("", tool_calls=[call])
    assert raw.notes == ()


def test_arguments_that_are_json_text_are_the_object_that_they_spell() -> None:
    def answer(arguments: Any) -> dict[str, Any]:
        return assistant("", tool_calls=[{"type": "function", "function": {"name": "f", "arguments": arguments}}])

    raw = pair({**CHAT, "chosen": [answer('{"city": "Rome"}')]})
    assert raw.responses[0] == (answer({"city": "Rome"}),)
    assert raw.notes == ("tool call arguments parsed from JSON text",)
    assert pair({**CHAT, "chosen": [answer("not JSON")]}).responses[0] == (answer("not JSON"),)
    assert pair({**CHAT, "chosen": [answer("3")]}).responses[0] == (answer("3"),)
    for depth in (101, 900, 100_000):
        deep = '{"a":' * depth + "1" + "}" * depth
        assert pair({**CHAT, "chosen": [answer(deep)]}).responses[0] == (answer(deep),)


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_a_thought_of_its_own_needs_no_content(key: str) -> None:
    assert pair({**CHAT, "chosen": [{"role": "assistant", key: "why"}]}).responses[0] == (
        assistant("", **{key: "why"}),
    )


@pytest.mark.parametrize("role", ["user", "system", "assistant", "tool"])
def test_a_message_without_anything_is_refused(role: str) -> None:
    assert "message 1 of prompt needs a text 'content', got null" in refusal({**CHAT, "prompt": [{"role": role}]})
    other = {"role": role, "content": {"t": 3}}
    assert """message 1 of prompt needs a text 'content', got dict "{'t': 3}\"""" in refusal(
        {**CHAT, "prompt": [other]}
    )


def test_parts_of_text_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "Name "}, {"type": "text", "text": "a colour"}]
    assert pair({**CHAT, "prompt": [{"role": "user", "content": parts}]}).prompt == (user("Name a colour"),)
    for kind in ("image_url", "input_audio", None):
        content = [*parts, {"type": kind, "image_url": {"url": "x"}}]
        message = refusal({**CHAT, "prompt": [{"role": "user", "content": content}]})
        assert f"message 1 of prompt: part 3 of its content has the type {kind!r}" in message
    assert "part 1 of its content must be" in refusal({**CHAT, "prompt": [{"role": "user", "content": ["x"]}]})


TEXT_OF_JSON = '[{"role": "assistant", "content": "hello"}]'


def test_answers_that_are_json_text_stay_text() -> None:
    raw = pair({**CHAT, "chosen": TEXT_OF_JSON, "rejected": "4"})
    assert (raw.responses[0], raw.responses[1]) == ((assistant(TEXT_OF_JSON),), (assistant("4"),))
    assert raw.notes == ("response that is a conversation stored as a string",)


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "Hi"}]',
        '[{"content": "Hi", "role": "user"}]',
        "[{'role': 'user', 'content': 'Hi'}]",
        "[{'content': 'Hi', 'role': 'user'}\n {'content': 'x', 'role': 'assistant'}]",
        ' [ {"from": "human", "value": "Hi"}]',
    ],
)
def test_conversations_stored_as_strings_are_refused(text: str) -> None:
    assert "prompt is a string that holds a conversation" in refusal({**PLAIN, "prompt": text})
    assert "a response is a string that holds a conversation" in refusal({"chosen": text, "rejected": text})
    assert "a response is a string that holds a conversation" in refusal({**PLAIN, "chosen": text})


@pytest.mark.parametrize("text", ['{"role": "user", "content": "Hi"}', "{'content': 'Hi', 'role': 'user'}"])
def test_a_message_stored_as_a_string_is_no_prompt_but_may_be_an_answer(text: str) -> None:
    assert "prompt is a string that holds a conversation" in refusal({**PLAIN, "prompt": text})
    read = pair({**PLAIN, "chosen": text})
    assert (read.prompt, read.responses[0]) == (PLAIN["prompt"], text)
    assert read.notes == ("response that is a conversation stored as a string",)


@pytest.mark.parametrize("text", ['{"a": 1}', '[{"a": 1}]', "[1, 2]", '[{"role": "admin", "content": "x"}]', "[{"])
def test_other_json_is_text(text: str) -> None:
    assert pair({**PLAIN, "prompt": text}).prompt == text


def test_a_system_column_is_the_system_message() -> None:
    system = {"role": "system", "content": "S"}
    assert pair({**PLAIN, "system": "S"}, as_chat=True).prompt == (system, user("Q"))
    assert pair({**CHAT, "system": "S"}).prompt == (system, user("Q"))
    both = {"chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), assistant("b")]}
    assert pair({**both, "system": "S"}).prompt == (system, user("Q"))
    assert pair({**CHAT, "system": "S", "prompt": [system, user("Q")]}).prompt == (system, user("Q"))
    assert "the column system differs from the system message in the prompt" in refusal(
        {**CHAT, "system": "T", "prompt": [system, user("Q")]}
    )
    prompt = read_prompt({"prompt": "Q", "system": "S"}, "f", reading(DataConfig(as_chat=True), "data.prompts"))
    assert not isinstance(prompt, Drop)
    assert prompt.prompt == (system, user("Q"))
    assert pair({**CHAT, "system": "S"}).example_id != pair(CHAT).example_id


@pytest.mark.parametrize("empty", ["", " ", None])
def test_an_empty_system_column_is_none(empty: str | None) -> None:
    assert pair({**PLAIN, "system": empty}).prompt == "Q"
    assert pair({**CHAT, "system": empty}).prompt == (user("Q"),)


@pytest.mark.parametrize(
    ("column", "value"),
    [("system", "S"), ("history", [["a", "b"]]), ("tools", [WEATHER]), ("documents", [{"text": "x"}]),
     ("chat_template_kwargs", {"enable_thinking": False})],
)  # fmt: skip
def test_plain_text_has_no_place_for_what_belongs_to_a_conversation(column: str, value: Any) -> None:
    message = refusal({**PLAIN, column: value})
    assert f"{column} cannot be used with a plain text prompt" in message
    assert "data.as_chat: true" in message
    assert pair({**PLAIN, column: value}, as_chat=True).unread == ()


@pytest.mark.parametrize("history", [[["x", "y"]], [user("x"), assistant("y")]])
def test_history_comes_before_the_prompt(history: Any) -> None:
    raw = pair({**PLAIN, "history": history, "system": "S"}, as_chat=True)
    assert raw.prompt == ({"role": "system", "content": "S"}, user("x"), assistant("y"), user("Q"))
    inside = pair({**CHAT, "history": history, "prompt": [{"role": "system", "content": "S"}, user("Q")]})
    assert inside.prompt == raw.prompt
    assert "history must be a list of [user, assistant] pairs; number 1 is" in refusal({**CHAT, "history": [["x"]]})


def test_tools_documents_and_settings_go_to_the_template() -> None:
    row = {**CHAT, "tools": [WEATHER], "documents": [{"text": "x"}], "chat_template_kwargs": {"a": 1, "b": None}}
    raw = pair(row)
    assert raw.inputs == Inputs((WEATHER,), ({"text": "x"},), {"a": 1})
    assert raw.example_id != pair(CHAT).example_id
    written = pair({**row, "tools": '[{"name": "f"}]'})
    assert written.inputs.tools == ({"name": "f"},)
    assert written.notes == ("tools or settings parsed from JSON text",)
    assert "tools must be a list of objects" in refusal({**CHAT, "tools": "none"})
    assert "chat_template_kwargs must be an object" in refusal({**CHAT, "chat_template_kwargs": [1]})
    assert "chat_template_kwargs.tools is not a setting" in refusal({**CHAT, "chat_template_kwargs": {"tools": []}})
    with pytest.raises(ConfigError, match=r"chat_template_kwargs\.messages is not a setting"):
        DataConfig(chat_template_kwargs={"messages": []})


def test_dates_of_a_table_are_text() -> None:
    day = datetime.date(2026, 11, 28)
    raw = pair({**CHAT, "documents": [{"text": "x", "of": day}], "prompt": [{**user("Q"), "sent": [day]}]})
    assert raw.inputs.documents == ({"text": "x", "of": "2026-11-28"},)
    assert raw.prompt == ({**user("Q"), "sent": ["2026-11-28"]},)


def test_charts_are_refused() -> None:
    assert "images is not empty" in refusal({**CHAT, "images": ["a.png"]})
    assert pair({**CHAT, "images": []}).unread == ("images",)


@pytest.mark.parametrize(
    ("row", "listed"),
    [
        ({"prompt": "Q", "response": "a", "rejected_response": "b"},
         "prompt, response, rejected_response (rename them with data.pairs.columns: {rejected: rejected_response})"),
        ({"prompt": "Q", " chosen": "a", "rejected": "b"},
         "prompt, ' chosen', rejected (rename them with data.pairs.columns: {chosen: ' chosen'})"),
        ({"Prompt": "Q", "Chosen": "a", "Rejected": "b"},
         "Prompt, Chosen, Rejected (rename them with data.pairs.columns: "
         "{prompt: Prompt, chosen: Chosen, rejected: Rejected})"),
        ({"prompt": "Q", "answers": ["a", "b"]}, "prompt, answers"),
        ({"good": "a", "bad": "b"}, "good, bad (rename them with data.pairs.columns: {chosen: good, rejected: bad})"),
        ({"question": "q", "Good answer": "a", "bad answer": "b", "bad_answer_id": 1},
         "question, Good answer, bad answer, bad_answer_id "
         "(rename them with data.pairs.columns: {prompt: question, chosen: Good answer, rejected: bad answer})"),
        ({"x": "a", "query": "b"}, "x, query (rename them with data.pairs.columns: {our name: name in the file})"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_pair_lists_all_of_its_columns(row: dict[str, Any], listed: str) -> None:
    assert f"the columns are {listed}" in refusal(row)


@pytest.mark.parametrize(
    "name", ["question", "instruction", "input", "query", "context", "user", " prompt", "Prompt", "raw_prompt"]
)
def test_no_prompt_is_guessed_where_a_column_holds_one(name: str) -> None:
    answers = {"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": "\n\nHuman: x\n\nAssistant: b"}
    message = refusal({"source": "s", name: "x", **answers})
    shown = repr(name) if name.startswith(" ") else name
    assert f"no prompt column; the file also has source, {shown}: " in message
    assert f"data.pairs.columns: {{prompt: {shown}}}" in message
    assert pair({name: "", "prompt_id": "x", **answers}).unread == (name, "prompt_id")
    assert "no prompt column" in refusal({name: "x", "chosen": [assistant("a")], "rejected": [assistant("b")]})
    whole = {"chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), assistant("b")]}
    assert pair({name: "x", **whole}).unread == (name,)


HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a colour\n\nAssistant:"
TURNS = (user("Hi"), assistant("Hello."), user("Name a colour"))


def test_hh_text_is_read_as_turns_by_name() -> None:
    implicit = {"chosen": f"{HH} Blue.", "rejected": f"{HH} A tree."}
    raw = pair(implicit, format="hh")
    assert (raw.prompt, *raw.responses) == (TURNS, (assistant("Blue."),), (assistant("A tree."),))
    for prompt in (HH, HH.lstrip(), HH.removesuffix("\n\nAssistant:")):
        explicit = pair({"prompt": prompt, "chosen": " Blue.", "rejected": " A tree."}, format="hh")
        assert (explicit.prompt, explicit.responses[0]) == (TURNS, (assistant("Blue."),))
    assert pair({"prompt": "Q", "chosen": " a", "rejected": "b"}, format="hh").prompt == (user("Q"),)
    assert hh_turns("Human") is None
    assert hh_turns("Assistant:") == (assistant(""),)
    longer = {"chosen": f"{HH} Blue.\n\nHuman: more", "rejected": f"{HH} A tree."}
    assert read_pair(longer, "f", reading(DataConfig(format="hh"), "k")) == Drop("answer is not the assistant's")


def test_hh_text_in_one_message_is_noted() -> None:
    raw = pair({"chosen": f"{HH} Blue.", "rejected": f"{HH} A tree."}, as_chat=True)
    assert raw.prompt == (user(HH),)
    assert raw.notes == ("turns of Human: and Assistant: inside one message (data.format: hh reads them as turns)",)


def test_a_turn_inside_a_response_is_noted() -> None:
    assert pair({**PLAIN, "chosen": "a\n\nHuman: b"}).notes == ("turn marker inside a response",)
    assert pair({**CHAT, "chosen": [assistant("a<|im_start|>user\nb")]}).notes == ("turn marker inside a response",)
    for text in ("\n\nAssistant: yes", "<|im_start|>assistant\nyes", "A: yes", "a Human: being"):
        assert not other_turn(text)


def test_plain_text_becomes_a_conversation_where_asked() -> None:
    raw = pair(PLAIN, as_chat=True)
    assert (raw.prompt, *raw.responses) == ((user("Q"),), (assistant("a"),), (assistant("b"),))
    assert pair(CHAT, as_chat=True) == pair(CHAT)


def test_token_ids_name_the_wrong_one() -> None:
    row = {"prompt_ids": [1], "chosen_ids": [3, -100], "rejected_ids": [2]}
    assert "chosen_ids must be a list of token ids; number 2 is int '-100'" in refusal(row)
    assert "number 1 is float '1.5'" in refusal({**row, "chosen_ids": [1.5]})


def test_a_number_too_large_for_a_float_is_refused() -> None:
    assert "p must be a probability in [0, 1], got a number of 401 digits" in refusal({**PLAIN, "p": 10**400})


@pytest.mark.parametrize(
    "prompt",
    [
        "\r\n\r\nHuman: Hi\r\n\r\nAssistant: Hello.\r\n\r\nHuman: Name a colour\r\n\r\nAssistant:",
        "Human: Hi\n \nAssistant: Hello.\n\nHuman: Name a colour",
    ],
)
def test_hh_turns_follow_an_empty_line_of_any_kind(prompt: str) -> None:
    assert pair({"prompt": prompt, "chosen": "a", "rejected": "b"}, format="hh").prompt == TURNS
    whole = {"chosen": f"{prompt} Blue.", "rejected": f"{prompt} Red."}
    if prompt.endswith("Assistant:"):
        raw = pair(whole, format="hh")
        assert (raw.prompt, raw.responses) == (TURNS, ((assistant("Blue."),), (assistant("Red."),)))


def test_text_before_the_first_hh_turn_is_a_system_message() -> None:
    system = {"role": "system", "content": "Be nice."}
    explicit = {"prompt": f"Be nice.{HH}", "chosen": " Blue.", "rejected": " Red."}
    repeated = {"prompt": f"Be nice.{HH}", "chosen": f"Be nice.{HH} Blue.", "rejected": f"Be nice.{HH} Red."}
    implicit = {"chosen": repeated["chosen"], "rejected": repeated["rejected"]}
    for row in (explicit, repeated, implicit):
        raw = pair(row, format="hh")
        assert raw.prompt == (system, *TURNS)
        assert raw.responses == ((assistant("Blue."),), (assistant("Red."),))
    assert hh_turns("Hm.\n\nAssistant: a") is None


HH_LEFT = Drop("turns that data.format: hh cannot tell apart (it reads Human: and Assistant: after an empty line)")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Human: Hi\nAssistant: Yo\nHuman: 2+2?\nAssistant:", "chosen": "4", "rejected": "5"},
        {"prompt": "\n\nhuman: q\n\nassistant:", "chosen": "4", "rejected": "5"},
        {"prompt": "\n\nH: q\n\nA:", "chosen": "4", "rejected": "5"},
        {"prompt": HH, "chosen": " 4\nHuman: more\nAssistant: 5", "rejected": "5"},
        {"prompt": HH, "chosen": " 4\n\nHuman: more\n\nAssistant: 5", "rejected": "5"},
        {"chosen": "Human: q\nAssistant: 4", "rejected": "Human: q\nAssistant: 5"},
    ],
)
def test_turns_that_hh_cannot_part_are_counted_by_that_reason(row: dict[str, Any]) -> None:
    hh = reading(DataConfig(format="hh"), "k")
    assert read_pair(row, "f", hh) == HH_LEFT
    if not row.get("prompt", HH).endswith(HH):
        assert read_prompt({"prompt": row["prompt"]}, "f", hh) == HH_LEFT


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("USER: q\nASSISTANT:", True), ("[INST] q [/INST]", True),
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", True), ("What is a user?", False),
    ],
)  # fmt: skip
def test_turns_in_a_prompt_that_becomes_one_message_are_noted(prompt: str, note: bool) -> None:
    notes = pair({**PLAIN, "prompt": prompt}, as_chat=True).notes
    assert notes == ("prompt with turns made one user message by data.as_chat",) * note
    assert pair({**PLAIN, "prompt": prompt}).notes == ()

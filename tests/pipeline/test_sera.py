"""What the rounds do to the data and the policy, read from the run's folder."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from small_run import logps_alone, small_config
from tiny import read_pairs
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.config import SourceConfig, WorldConfig
from seralign.errors import ConfigError, DataError, StoreError
from seralign.laboratory.world import make_world
from seralign.objectives import OBJECTIVES
from seralign.pipeline import RunResult, train
from seralign.pipeline.result import model_card
from seralign.report.contents import run_contents
from seralign.report.facts import facts
from seralign.report.figures import run_figures
from seralign.report.text import run_tables
from seralign.rewards.length_correction import length_slope, slope_within
from seralign.rewards.usable import usable_responses
from seralign.runs import Run
from seralign.runs.figures import ResultFigures
from seralign.runs.files import read_table
from seralign.runs.layout import COLUMNS, GENERATED, HELDOUT_REWARDS, LABELS, QUERIED, place


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The small run: sft, three rounds, the baseline."""
    return train(small_config(tmp_path_factory.mktemp("sera") / "run"))


def column(run: Run, stage: str, file: str, name: str) -> Any:
    return read_table(run.path(stage, file))[name].to_pylist()


def test_the_result_opens_in_transformers_and_is_the_last_round(result: RunResult) -> None:
    model = AutoModelForCausalLM.from_pretrained(result.policy)
    last = AutoModelForCausalLM.from_pretrained(result.run.path("round-3/train", "policy"))
    for own, theirs in zip(model.parameters(), last.parameters(), strict=True):
        assert torch.equal(own, theirs)
    tokenizer = AutoTokenizer.from_pretrained(result.policy)
    assert tokenizer("e1 e2 e3 e4 <sep>").input_ids[0] == tokenizer.bos_token_id
    card = (result.policy / "README.md").read_text()
    for word in ("library_name: transformers", "sft/policy", "dpo, beta 0.1", "round 3", "| round 2 |"):
        assert word in card
    assert not list(result.policy.glob("*.bin")), "no pickle leaves a run"


def test_names_in_the_card_are_text(result: RunResult, tmp_path: Path) -> None:
    root = tmp_path / "run <img src=x> **b** [l](u)"
    shutil.copytree(result.run.root, root)
    config = small_config(result.run.root)
    source = SourceConfig("a\n# b`|<script>alert(1)\u202e.jsonl")
    config = replace(
        config, world=None, policy=replace(config.policy, model="m"), data=replace(config.data, pairs=source)
    )
    figures = result.run.figures("result", ResultFigures)
    _, head, body = model_card(Run(root), config, figures, is_adapter=False, base_model=None).split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "transformers"
    shown = MarkdownIt("commonmark").enable("table").render(body)
    assert "<h1><code>run &lt;img src=x&gt; **b** [l](u)</code></h1>" in shown
    assert "<code>a\\n# b`|&lt;script&gt;alert(1)\\u202e.jsonl</code>" in shown
    assert not re.search("<(script|img|a|b)[ >]", shown)


def test_margins_of_a_round_are_those_of_the_policy_before_it(result: RunResult) -> None:
    run = result.run
    pairs = read_pairs(run.path("data", "pairs.arrow"))
    assert column(run, "round-2/score", "margins.parquet", "example_id") == pairs["example_id"][:]
    policy, reference = run.path("round-1/train", "policy"), run.path("sft", "policy")
    expected = {
        side: logps_alone(policy, pairs, side) - logps_alone(reference, pairs, side)
        for side in ("chosen_ids", "rejected_ids")
    }
    margins = np.array(column(run, "round-2/score", "margins.parquet", "margin"))
    np.testing.assert_allclose(margins, expected["chosen_ids"] - expected["rejected_ids"], atol=1e-4)


def test_the_ensemble_mixes_the_last_two_policies(result: RunResult) -> None:
    run = result.run
    h1 = np.array(column(run, "round-2/score", "margins.parquet", "margin"))
    h2 = np.array(column(run, "round-3/score", "margins.parquet", "margin"))
    np.testing.assert_array_equal(column(run, "round-2/select", "selection.parquet", "margin"), h1)
    mixed = np.array(column(run, "round-3/select", "selection.parquet", "margin"))
    np.testing.assert_allclose(mixed, 0.7 * h2 + 0.3 * h1, rtol=1e-12)


def test_selection_keeps_the_largest_margins_and_records_every_pair(result: RunResult) -> None:
    table = read_table(result.run.path("round-3/select", "selection.parquet")).to_pylist()
    kept = [row["margin"] for row in table if row["kept"]]
    dropped = [row["margin"] for row in table if not row["kept"]]
    assert len(table) == 60
    assert len(kept) == 42
    assert min(kept) >= max(dropped)


def test_generated_pairs_are_the_best_and_the_worst_by_the_ensembled_reward(result: RunResult) -> None:
    run = result.run
    rewards = read_table(run.path("round-3/bootstrap", "rewards.parquet")).to_pylist()
    candidates = read_table(run.path("round-3/sample", "candidates.parquet")).to_pylist()
    generated = read_pairs(run.path("round-3/bootstrap", "generated.arrow"))
    assert len(generated) > 0
    for pair in generated:
        own = [
            (row["reward"], tuple(candidate["ids"]))
            for row, candidate in zip(rewards, candidates, strict=True)
            if row["prompt_id"] == pair["prompt_id"] and candidate["finished"] and candidate["text"]  # pyright: ignore
        ]
        assert tuple(pair["chosen_ids"]) == max(own)[1]  # pyright: ignore
        assert tuple(pair["rejected_ids"]) == min(own)[1]  # pyright: ignore
    assert set(generated["origin"]) == {"generated:3"}


def test_a_round_trains_on_both_kinds_and_never_on_held_out_prompts(result: RunResult) -> None:
    run = result.run
    held = set(read_pairs(run.path("data", "heldout.arrow"))["prompt_id"])
    for index, most in ((2, 0.3), (3, 0.5)):
        rows = read_table(run.path(f"round-{index}/compose", "training.parquet")).to_pylist()
        origins = [row["origin"] for row in rows if row["used"]]
        assert set(origins) == {"offline", f"generated:{index}"}
        assert origins.count(f"generated:{index}") / len(origins) <= most
        assert not held & set(read_pairs(run.path(f"round-{index}/bootstrap", "generated.arrow"))["prompt_id"])


def test_tables_have_the_columns_of_the_layout(result: RunResult) -> None:
    tables = sorted(path for path in result.run.root.rglob("*.parquet") if "scratch" not in path.parts)
    # Those of crossfit, of reward models and of queues are written by other runs.
    assert {path.name for path in tables} == COLUMNS.keys() - {"review.parquet", HELDOUT_REWARDS, QUERIED, LABELS}
    for path in tables:
        assert tuple(read_table(path).column_names) == COLUMNS[path.name], path


def test_every_stage_has_a_place_in_the_order_of_a_run(result: RunResult) -> None:
    names = [record.name for record in result.run.stages()]
    assert sorted(names, key=place) == names


def test_figures_have_names(result: RunResult) -> None:
    figures = run_figures(result.run)
    assert [policy.name for policy in figures.policies] == ["sft", "dpo", "round 1", "round 2", "round 3"]
    sft, dpo = (policy.figures for policy in figures.policies[:2])
    assert sft.kl is not None
    assert sft.heldout_accuracy is not None
    assert (sft.kl.mean, sft.heldout_margin, sft.heldout_accuracy.mean) == (0.0, 0.0, 0.5)
    assert dpo.win_rates["sft"].mean + sft.win_rates["dpo"].mean == pytest.approx(1.0)
    assert figures.rounds[2].compose is not None
    assert figures.rounds[2].compose.share_wanted == 0.5
    assert figures.stopped == "all rounds done"
    baseline = result.run.record("baseline/train").figures
    assert baseline["steps"] == sum(each.train.steps for each in figures.rounds if each.train)


def test_step_zero_of_the_first_round_is_exact(result: RunResult) -> None:
    first = result.run.record("round-1/train").figures["heldout_first"]
    assert first["eval_margins"] == 0.0
    assert first["eval_rewards/chosen"] == 0.0
    assert first["eval_loss"] == pytest.approx(np.log(2), rel=1e-12)


def test_another_run_with_the_same_cache_computes_no_reference_again(tmp_path: Path) -> None:
    cache = str(tmp_path / "logps.sqlite")
    small = {"rounds": 2, "bootstrap": None, "scoring__cache": cache, "evaluation__baseline": False}
    train(small_config(tmp_path / "first", **small))
    again = train(small_config(tmp_path / "second", **small)).run
    assert again.record("round-2/score").figures["cache_misses"] == 0
    # The third round scores only the policy that is new: each pair's two responses once.
    third = train(small_config(tmp_path / "third", **{**small, "rounds": 3})).run.record("round-3/score").figures
    assert third["cache_misses"] == 2 * 60
    assert third["cache_hits"] == 2 * 60


# One of each implicit reward, what the trainer does more for, and all others where time does not count. aihf also needs
# demonstrations, and is in test_joined_run.py.
REWARDS = ("ipo", "simpo", "dpo_norm", "slic_hf", "alpha_po", "f_dpo", "orpo", "bco", "aot", "ld_dpo", "wpo")
TINY: dict[str, Any] = {
    "rounds": 2, "sft": None, "world": {"pairs": 24, "prompts": 8, "heldout": 4},
    "evaluation": {"prompts": 0, "token_pairs": 0},
    "training": {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 8, "precision": "float32"},
    "bootstrap": {"samples": 2, "max_new_tokens": 24, "batch_size": 8, "prompts": 6},
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        name if name in REWARDS else pytest.param(name, marks=pytest.mark.real)
        for name, kind in OBJECTIVES.items()
        if kind.reads == "all" and "pair" in kind.forms and name not in ("aihf", "dpo", "reward")
    ],
)
def test_every_objective_goes_round(tmp_path: Path, name: str) -> None:
    """Trained, then pairs selected and made by its own implicit reward, and trained again."""
    run = train(small_config(tmp_path / "run", objective__name=name, **TINY)).run
    assert run.record("result").figures["policy"] == "round 2"
    kind = OBJECTIVES[name]
    assert ("reference.parquet" in run.record("round-1/train").outputs) is kind.uses_reference
    table = read_table(run.path("round-2/score", "margins.parquet"))
    own = {key: np.array(table[key].to_pylist()) for key in table.column_names}
    against: dict[str, Any] = {"chosen": None, "rejected": None}
    if kind.uses_reference:
        stored = read_table(run.path("round-1/train", "reference.parquet")).to_pylist()
        of_pair = {row["example_id"]: row["logps"] for row in stored}
        both = np.array([of_pair[name] for name in own["example_id"]])
        against = {"chosen": both[:, 0], "rejected": both[:, 1]}
    rewards = [
        kind().reward(own[f"{side}_logp"], reference, own[f"{side}_length"]) for side, reference in against.items()
    ]
    # The trainer's packs and those of scoring round differently.
    np.testing.assert_allclose(own["margin"], rewards[0] - rewards[1], rtol=1e-3, atol=1e-4)
    assert np.abs(own["margin"]).max() > 0
    assert len(read_pairs(run.path("round-2/bootstrap", GENERATED))) > 0


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if kind.reads == "first"])
def test_an_objective_of_one_response_has_no_rounds(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^objective\.name: {name} has no margin to select pairs by; set rounds: 1"):
        small_config(tmp_path / "run", objective__name=name, **TINY)


def test_the_reference_may_move_and_the_start_may_stay(tmp_path: Path) -> None:
    overrides = {"evaluation__baseline": False, "reference__update": "each_round", "policy__start": "initial"}
    run = train(small_config(tmp_path / "run", **overrides)).run
    digest = {index: run.record(f"round-{index}/train").figures["digest"] for index in (1, 2, 3)}
    initial = run.record("policies").figures["initial"]["digest"]
    for index in (2, 3):
        inputs = run.record(f"round-{index}/train").inputs
        assert inputs["reference"] == digest[index - 1]
        assert inputs["start"] == initial
    # Each policy's reward is against the reference that it was trained against.
    inputs = run.record("round-3/bootstrap").inputs
    assert inputs["policy_reference"] == digest[1]
    assert inputs["policy_before_reference"] == initial


def test_the_reference_may_follow_the_policy_in_training(tmp_path: Path) -> None:
    moving = {"reference": {"sync_steps": 2, "mixup": 0.5, "update": "each_round"}}
    result = train(small_config(tmp_path / "run", **TINY, **moving))
    run = result.run
    assert "reference.parquet" not in run.record("round-1/train").outputs
    assert (
        "in training, it takes 0.5 of the policy's weights every 2 steps" in (result.policy / "README.md").read_text()
    )
    still = train(small_config(tmp_path / "still", **TINY, reference={"update": "each_round"})).run
    figures, others = (each.record("round-1/train").figures for each in (run, still))
    assert figures["digest"] != others["digest"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_lora_run_ends_with_an_adapter(tmp_path: Path) -> None:
    from peft import PeftModel

    overrides = {"rounds": 2, "policy__lora": {"r": 2}, "evaluation__baseline": False, "sft": None}
    result = train(small_config(tmp_path / "run", **overrides))
    base = AutoModelForCausalLM.from_pretrained(result.run.path("world", "model"))
    model = PeftModel.from_pretrained(base, str(result.policy))
    assert any(float(value.abs().sum()) > 0 for name, value in model.named_parameters() if "lora_B" in name)
    first = result.run.record("round-1/train").figures["heldout_first"]
    assert first["eval_margins"] == 0.0
    policies = result.run.record("policies").figures
    assert policies["reference"]["digest"] == policies["initial"]["digest"]
    assert policies["reference"]["source"].endswith("world/model")


def test_a_trained_adapter_is_its_own_frozen_reference(tmp_path: Path) -> None:
    small = {"rounds": 1, "sft": None, "evaluation__baseline": False}
    first = train(small_config(tmp_path / "first", policy__lora={"r": 2}, **small))
    base = first.run.path("world", "model")
    second = train(
        small_config(tmp_path / "second", policy__model=str(base), policy__adapter=str(first.policy), **small)
    )
    policies = second.run.record("policies").figures
    assert policies["reference"]["source"].endswith(f"{base} + {first.policy}")
    start = second.run.record("round-1/train").figures["heldout_first"]
    assert start["eval_margins"] == 0.0, "the reference is the adapter, not the base model"
    moved = second.run.record("round-1/train").figures["digest"]
    assert moved != policies["reference"]["digest"]


def test_rounds_end_early_by_the_rule_and_say_why(tmp_path: Path) -> None:
    run = train(small_config(tmp_path / "run", stop__metric="margin_accuracy", stop__min_gain=0.9)).run
    assert run.record("round-2/decide").figures["stop"] is True
    assert not run.exists("round-3/train")
    assert run.record("result").figures["policy"] == "round 1"
    assert "no gain in margin_accuracy" in str(run_figures(run).stopped)


def test_a_threshold_that_keeps_nothing_is_told(tmp_path: Path) -> None:
    rule = {"rule": "threshold", "threshold": 1e6}
    with pytest.raises(DataError, match=r"round-2: selection.rule threshold .* keeps none of 60 pairs"):
        train(small_config(tmp_path / "run", selection=rule))


def test_a_scorer_of_ones_own(tmp_path: Path) -> None:
    def shorter(prompts: list[str], responses: list[str]) -> np.ndarray:
        assert all("<sep>" in prompt for prompt in prompts)
        return -np.array([len(response.split()) for response in responses], dtype=np.float64)

    run = train(small_config(tmp_path / "run", rounds=1, evaluation__baseline=False), scorer=shorter).run
    texts = column(run, "round-1/evaluate", "samples.parquet", "text")
    assert column(run, "round-1/evaluate", "samples.parquet", "score") == [-len(text.split()) for text in texts]


def test_nothing_to_evaluate_or_to_bootstrap_is_fine(tmp_path: Path) -> None:
    overrides = {"evaluation__prompts": 0, "bootstrap": None, "rounds": 2, "evaluation__baseline": False}
    figures = run_figures(train(small_config(tmp_path / "run", **overrides)).run)
    assert figures.policies[-1].figures.n == 0
    assert figures.policies[-1].figures.heldout_accuracy is not None
    assert figures.rounds[1].sample is None


@pytest.mark.parametrize("heldout", [3, 12])
def test_harm_is_said_by_the_interval_in_the_terminal_and_in_the_report(
    heldout: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held-out pairs are the other way round, so none is ranked right: of 3 up to 56.1%, of 12 up to 24.2%."""
    from tiny import save_model

    for file, first, count, sides in (
        ("pairs", 0, 20, ("chosen", "rejected")),
        ("heldout", 20, heldout, ("rejected", "chosen")),
    ):
        rows = [
            dict(zip(("prompt", *sides), (f"w{at} ", "w1 w2 w3", "w4 w5 w6"), strict=True))
            for at in range(first, first + count)
        ]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = {
        "world": None, "sft": None, "rounds": 1, "policy__model": save_model(tmp_path / "model").model,
        "evaluation__baseline": False, "evaluation__prompts": 0, "training__learning_rate": 1e-2,
        "training__max_steps": 8, "data__pairs": {"path": str(tmp_path / "pairs.jsonl")},
        "data__heldout": {"path": str(tmp_path / "heldout.jsonl")},
    }  # fmt: skip
    run = train(small_config(tmp_path / "run", **overrides)).run
    figures = run_figures(run)
    accuracy = figures.policies[-1].figures.heldout_accuracy
    assert accuracy is not None
    assert accuracy.mean == 0.0
    says = "it does harm: its held-out accuracy is 0.0% (0.0 to 24.2)"
    assert [warning.kind for warning in figures.warnings if warning.kind == "harm"] == ["harm"] * (heldout == 12)
    assert ("it does harm" in capsys.readouterr().err) is (heldout == 12)
    decided = run.record("round-1/decide").figures["harm"]
    assert decided == (says.removeprefix("it does harm: ") if heldout == 12 else None)


@pytest.mark.parametrize("rule", ["all", "bottom", "random"])
def test_the_mix_makes_room_by_the_rule_that_kept(tmp_path: Path, rule: str) -> None:
    """Whatever the rule keeps, offline pairs go for generated ones that are there, and as the rule would."""
    overrides = {"rounds": 2, "evaluation__baseline": False, "selection": {"rule": rule, "fraction": 0.8}}
    overrides["bootstrap"] = {"samples": 3, "temperature": 1.0, "max_new_tokens": 24, "shares": [0.5],
                              "selection": {"rule": "all"}}  # fmt: skip
    run = train(small_config(tmp_path / "run", **overrides)).run
    rows = read_table(run.path("round-2/compose", "training.parquet")).to_pylist()
    kept = 60 if rule == "all" else 48
    own = [row for row in rows if row["origin"] == "offline"]
    used = [row["margin"] for row in own if row["used"]]
    left = [row["margin"] for row in own if not row["used"]]
    made = sum(row["used"] for row in rows if row["origin"] != "offline")
    assert len(own) == kept
    assert len(used) == min(kept, 60 - made)
    assert left, "the case is meant to leave some out"
    assert rule != "bottom" or max(used) <= min(left)
    assert min(used) < max(left), "the largest margins are not preferred"


def test_another_scorer_is_refused_at_resume(tmp_path: Path) -> None:
    def shorter(prompts: list[str], responses: list[str]) -> list[float]:
        return [-float(len(response)) for response in responses]

    def longer(prompts: list[str], responses: list[str]) -> list[float]:
        return [float(len(response)) for response in responses]

    small = {"rounds": 1, "evaluation__baseline": False}
    run = train(small_config(tmp_path / "run", **small), scorer=shorter).run
    before = run.record("result").digest
    assert train(small_config(tmp_path / "run", **small), scorer=shorter).run.record("result").digest == before
    with pytest.raises(StoreError, match=r"other inputs: scorer changed since"):
        train(small_config(tmp_path / "run", **small), scorer=longer)


def test_a_scorer_that_returns_nonsense_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scores must be finite"):
        train(small_config(tmp_path / "run", rounds=1), scorer=lambda prompts, responses: [np.nan] * len(responses))


def test_sft_is_an_objective_that_learns_from_demonstrations(tmp_path: Path) -> None:
    overrides = {"rounds": 1, "sft": None, "bootstrap": None, "objective__name": "sft", "evaluation__baseline": False}
    run = train(small_config(tmp_path / "run", **overrides)).run
    assert run.record("round-1/train").figures["pairs"] == 120
    lines = [line for line in run.path("round-1/train", "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert last["loss"] < first["loss"] < np.log(28) + 0.2


def test_sft_needs_no_pairs(tmp_path: Path) -> None:
    """A fifth of the prompts of the demonstrations is held out, and the loss on them is measured."""
    make_world(WorldConfig(pairs=4, demonstrations=60, prompts=4, heldout=4, validation=4), tmp_path / "world")
    overrides = {
        "rounds": 1, "sft": None, "world": None, "bootstrap": None, "objective__name": "sft",
        "evaluation__baseline": False, "policy__model": str(tmp_path / "world" / "model"),
        "data__heldout_fraction": 0.2,
        "data__demonstrations": {"path": str(tmp_path / "world" / "demonstrations.jsonl")},
    }  # fmt: skip
    run = train(small_config(tmp_path / "run", **overrides)).run
    data, trained = (run.record(stage).figures for stage in ("data", "round-1/train"))
    assert data["pairs"] + data["heldout"] == 60
    assert data["heldout"] == 12
    assert data["sources"].keys() == {"demonstrations"}
    assert trained["pairs"] == 48
    assert trained["heldout"]["eval_loss"] < trained["heldout_first"]["eval_loss"] < np.log(28) + 0.2
    assert not run.exists("round-1/tokens")
    assert "48 demonstrations\n" in (run.root / "result" / "README.md").read_text(encoding="utf-8")
    contents = run_contents(run)
    assert (contents.pairs, contents.pairs_total) == (None, 0)
    assert "12 demonstrations held out, for the held-out loss" in str(facts(contents))
    assert "48 demonstrations to train on, 12 held out" in "\n".join(map(str, run_tables(contents.figures).renderables))
    assert (run.root / "report.html").is_file()


def test_a_rule_without_its_figure_is_refused_before_training(tmp_path: Path) -> None:
    files = train(small_config(tmp_path / "first", rounds=1, sft=None, evaluation__baseline=False)).run.path("world")
    overrides = {
        "world": None, "sft": None, "policy__model": str(files / "model"), "evaluation__baseline": False,
        "data__pairs": {"path": str(files / "pairs.jsonl")},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"win_rate needs evaluation\.scorer"):
        train(small_config(tmp_path / "second", **overrides, stop__metric="win_rate"))
    with pytest.raises(ConfigError, match="margin_accuracy needs held-out pairs"):
        train(small_config(
            tmp_path / "third", **overrides, stop__metric="margin_accuracy", data__heldout_fraction=0.0
        ))  # fmt: skip


def test_a_reference_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    from tiny import save_model

    other = save_model(tmp_path / "other", "llama")
    with pytest.raises(ConfigError, match=r"reference\.model has a vocabulary of"):
        train(small_config(tmp_path / "run", rounds=1, reference__model=other.model))


def test_generated_pairs_stay_within_max_length(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.max_new_tokens is 24: with the longest prompt of 6"):
        train(small_config(tmp_path / "run", data__max_length=28))


@pytest.mark.parametrize(
    ("sample_from", "sampled_from"),
    [
        ("policy", ["round 1", "round 2"]),
        ("previous", ["sft", "round 1"]),
        ("initial", ["sft", "sft"]),
    ],
)
def test_which_policy_samples_the_responses(tmp_path: Path, sample_from: str, sampled_from: list[str]) -> None:
    """By name in the figures, and by the weights that the stage read."""
    run = train(small_config(tmp_path / "run", bootstrap__sample_from=sample_from)).run
    digests = {"sft": run.record("policies").figures["initial"]["digest"]} | {
        f"round {index}": run.record(f"round-{index}/train").figures["digest"] for index in (1, 2)
    }
    found = [run.record(f"round-{index}/sample") for index in (2, 3)]
    assert [record.figures["sampled_from"] for record in found] == sampled_from
    assert [record.inputs["policy"] for record in found] == [digests[name] for name in sampled_from]
    judges = [run.record(f"round-{index}/bootstrap").inputs["policy"] for index in (2, 3)]
    assert judges == [digests["round 1"], digests["round 2"]]


@pytest.mark.parametrize("correction", ["offline", "within_prompt"])
def test_margins_and_rewards_without_what_length_explains(tmp_path: Path, correction: str) -> None:
    run = train(small_config(tmp_path / "run", scoring__length_correction=correction, rounds=2)).run
    plain = read_table(run.path("round-2/score", "margins.parquet")).to_pydict()
    raw = np.array(plain["margin"])
    longer = np.array(plain["chosen_length"], dtype=float) - np.array(plain["rejected_length"])
    slope = length_slope(raw, longer, np.array(read_pairs(run.path("data", "pairs.arrow"))["p"][:]))
    selected = read_table(run.path("round-2/select", "selection.parquet"), ["margin"])["margin"].to_numpy()

    assert run.record("round-2/select").figures["length_slope"] == slope != 0.0
    np.testing.assert_allclose(selected, raw - slope * longer, atol=1e-12)
    assert run.record("round-2/select").figures["margin_length_correlation"] == pytest.approx(
        np.corrcoef(selected, longer)[0, 1]
    )

    candidates = read_table(run.path("round-2/sample", "candidates.parquet"))
    rewards = read_table(run.path("round-2/bootstrap", "rewards.parquet"))["reward"].to_numpy()
    lengths = np.array([len(ids) for ids in candidates["ids"].to_pylist()])
    prompts = {row["prompt_id"]: row["ids"] for row in read_pairs(run.path("data", "prompts.arrow"))}
    some = [row | {"prompt_ids": prompts[row["prompt_id"]]} for row in candidates.slice(0, 3).to_pylist()]
    own, against = (logps_alone(run.path(stage, "policy"), some, "ids") for stage in ("round-1/train", "sft"))
    made = run.record("round-2/bootstrap").figures
    if correction == "within_prompt":
        usable, _ = usable_responses(candidates)
        assert slope_within(usable, rewards, lengths) == pytest.approx(0.0, abs=1e-6)
        assert abs(made["length_slope"] - slope) > 1e-4
    else:
        assert made["length_slope"] == slope
    np.testing.assert_allclose(rewards[:3], own - against - made["length_slope"] * lengths[:3], atol=1e-4)


def test_the_inputs_of_a_stage_name_all_that_it_reads(result: RunResult) -> None:
    """By digest, so that nothing that changed is taken for what the stage was made from."""
    run = result.run
    named = {record.name: record.inputs for record in run.stages()}
    selected = run.record("round-3/select")
    settings = {"scoring.ensemble_weight", "scoring.length_correction", "selection", "seed"}
    assert named["round-3/select"].keys() == {"pairs", "margins", "margins_before"} | settings
    assert named["round-3/bootstrap"]["length_slope"] == repr(selected.figures["length_slope"])
    assert named["round-3/bootstrap"]["data"] == named["round-3/select"]["pairs"] == run.record("data").digest
    for rival, stage in (("sft", "initial/evaluate"), ("round 1", "round-1/evaluate")):
        assert named["round-2/evaluate"][f"answers of {rival}"] == run.record(stage).digest
    # The baseline's steps are a figure of the rounds; all else of the two trainings is the same.
    assert named["baseline/train"]["training"] != named["round-1/train"]["training"]
    assert named["round-2/train"]["training"] == named["round-3/train"]["training"]
    assert len({named[f"round-{index}/train"]["pairs"] for index in (1, 2, 3)}) == 3
    assert len({named[f"round-{index}/decide"]["evaluations"] for index in (1, 2, 3)}) == 3

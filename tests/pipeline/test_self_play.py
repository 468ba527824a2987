"""Rounds that make all of their pairs: online DPO, SPIN and SAPO, without any offline pairs."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from small_run import SMALL, logps_alone
from tiny import as_pairs

from seralign.config import PolicyConfig, RunConfig, WorldConfig, load_config
from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError, DataError, StoreError
from seralign.laboratory.world import make_world
from seralign.objectives import DPO
from seralign.objectives.base import ResponseValues
from seralign.pipeline import RunResult, train
from seralign.pipeline.lineage import rounds
from seralign.pipeline.plan.plan import plan_run
from seralign.pipeline.schedule import schedule
from seralign.policy.heads import REWARD
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.policy.quiet import quiet_transformers
from seralign.report.contents import run_contents
from seralign.report.facts import facts
from seralign.report.figures import run_figures
from seralign.report.pairs import first_round
from seralign.report.summary import headline, tiles
from seralign.report.text import run_tables
from seralign.rewards.reward_model import open_reward_model
from seralign.runs import Run
from seralign.runs.files import read_table

SAMPLING: dict[str, Any] = {"max_new_tokens": 24, "batch_size": 8, "temperature": 1.0}


def shorter(prompts: list[str], responses: list[str]) -> list[float]:
    """A scorer for which the shorter response is better."""
    return [-float(len(text.split())) for text in responses]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the built-in world and its model; its pairs are not used."""
    folder = tmp_path_factory.mktemp("world") / "world"
    make_world(WorldConfig(pairs=8, demonstrations=60, prompts=20, heldout=4), folder)
    return folder


def config_of(world: Path, out: Path, recipe: str, **more: Any) -> RunConfig:
    """A small run of a recipe from the world's demonstrations or prompts alone."""
    bootstrap = SAMPLING | more.pop("bootstrap", {})
    sources = {"prompts": "prompts.jsonl"} if recipe == "online_dpo" else {}
    data: dict[str, Any] = {"max_length": 48, "heldout_fraction": 0.2}
    sources |= {"demonstrations": "demonstrations.jsonl"}
    data |= {name: {"path": str(world / file)} for name, file in sources.items()}
    values = {
        "out": str(out), "recipe": recipe, "rounds": 3, "policy": {"model": str(world / "model")}, "data": data,
        "sft": SMALL["sft"], "training": SMALL["training"], "scoring": SMALL["scoring"], "bootstrap": bootstrap,
        "evaluation": {"prompts": 4, "batch_size": 4, "max_new_tokens": 12, "token_pairs": 4},
    }  # fmt: skip
    return load_config(None, values | {key.replace("__", "."): value for key, value in more.items()})


@pytest.fixture(scope="module")
def spin(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return train(config_of(world, tmp_path_factory.mktemp("run") / "spin", "spin", bootstrap={"prompts": 12}))


@pytest.fixture(scope="module")
def sapo(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    made = {"prompts": 12, "max_new_tokens": 3, "decay": 0.25}
    return train(config_of(world, tmp_path_factory.mktemp("run") / "sapo", "sapo", bootstrap=made))


@pytest.fixture(scope="module")
def online(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("run") / "online"
    more = {"stop__metric": "win_rate", "stop__patience": 3}
    return train(config_of(world, out, "online_dpo", evaluation__scorer="pipeline.test_self_play:shorter", **more))


@pytest.fixture(scope="module")
def reward_model(world: Path) -> Path:
    """A random reward model with the tokenizer of the world."""
    source, config = PolicySource(str(world / "model")), PolicyConfig(str(world / "model"))
    torch.manual_seed(0)
    model: Any = load_model(source, config, "float32", head=REWARD)
    tokenizer = load_tokenizer(source, config)
    tokenizer = REWARD.prepare(model, tokenizer, end_tokens(source, tokenizer))
    with quiet_transformers():
        model.save_pretrained(world.parent / "reward")
    tokenizer.save_pretrained(world.parent / "reward")
    return world.parent / "reward"


@pytest.fixture(scope="module")
def averaged(world: Path, reward_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Online rounds of an adapter: a reward model is the judge, and the average of the policies answers."""
    more = {
        "sft": None, "data__demonstrations": None, "policy__lora": {"r": 2, "alpha": 4}, "reference__update": "average",
        "evaluation__judge": "reward_model", "evaluation__judge_options": {"model": str(reward_model)},
        "evaluation__prompts": 0, "evaluation__token_pairs": 0, "training__max_steps": 2,
    }  # fmt: skip
    bootstrap = {"prompts": 8, "sample_from": "average", "decay": 0.25, "max_new_tokens": 16}
    return train(
        config_of(world, tmp_path_factory.mktemp("run") / "averaged", "online_dpo", bootstrap=bootstrap, **more)
    )


def made(run: Run, index: int) -> list[dict[str, Any]]:
    """The pairs that a round has made."""
    return [dict(row) for row in as_pairs(read_examples(run.path(f"round-{index}/bootstrap", "generated.arrow")))]


def used(run: Run, index: int) -> dict[str, str]:
    """The origins of the pairs that a round trained on, by id."""
    table = read_table(run.path(f"round-{index}/compose", "training.parquet")).to_pylist()
    return {row["example_id"]: row["origin"] for row in table if row["used"]}


def shown(run: Run) -> dict[str, dict[str, Any]]:
    """The demonstrations of a run by id."""
    table = as_pairs(read_examples(run.path("data", "demonstrations.arrow")))
    return {row["example_id"]: row for row in map(dict, table)}


# --- SPIN


def test_the_opponent_of_spin_is_the_policy_of_the_round_before(spin: RunResult) -> None:
    run, demonstrations = spin.run, shown(spin.run)
    for index, opponent in enumerate(("sft", "round-1/train", "round-2/train"), 1):
        record = run.record(f"round-{index}/train")
        digest = run.record(opponent).figures["digest"]
        assert run.record(f"round-{index}/sample").inputs["policy"] == digest
        assert record.inputs["reference"] == record.inputs["start"] == digest
        answers = {
            (row["prompt_id"], tuple(row["ids"]))
            for row in read_table(run.path(f"round-{index}/sample", "candidates.parquet")).to_pylist()
        }
        pairs = made(run, index)
        assert len(pairs) > 0
        for pair in pairs:
            name = pair["example_id"].removeprefix(f"round{index}-").rpartition("-")[0]
            assert pair["chosen_ids"] == demonstrations[name]["chosen_ids"]
            assert pair["prompt_ids"] == demonstrations[name]["prompt_ids"]
            assert (name, tuple(pair["rejected_ids"])) in answers
    assert not run.exists("round-2/score")
    assert not run.exists("round-2/select")


def test_spin_trains_on_the_pairs_of_this_round_and_the_one_before(spin: RunResult) -> None:
    ids = [{pair["example_id"] for pair in made(spin.run, index)} for index in (1, 2, 3)]
    assert set(used(spin.run, 1)) == ids[0]
    assert set(used(spin.run, 2)) == ids[0] | ids[1]
    assert set(used(spin.run, 3)) == ids[1] | ids[2]
    assert set(used(spin.run, 3).values()) == {"generated:2", "generated:3"}


def test_the_loss_of_spin_by_hand() -> None:
    """Equation 4.7 with lambda 0.5: log-ratios 0.4 of the demonstration and -0.6 of the response differ by 1, and the
    loss is log(1 + exp(-0.5)) = 0.4741."""
    assert math.log1p(math.exp(-0.5)) == pytest.approx(0.4741, abs=1e-4)
    both = ResponseValues(
        policy=torch.tensor([-2.6, -5.6]), reference=torch.tensor([-3.0, -5.0]), lengths=torch.tensor([4, 6]),
        example=torch.tensor([0, 0]), preference=torch.tensor([1.0, 0.0]), examples=1,
    )  # fmt: skip
    assert float(DPO(beta=0.5).loss(both).mean()) == pytest.approx(math.log1p(math.exp(-0.5)))


def test_held_out_prompts_are_of_no_demonstration_that_is_trained_on(spin: RunResult) -> None:
    held = {row["prompt_id"] for row in map(dict, read_examples(spin.run.path("data", "heldout_prompts.arrow")))}
    demonstrations = {row["prompt_id"] for row in shown(spin.run).values()}
    assert held
    assert not held & demonstrations
    assert spin.run.record("data").figures["pairs"] == 0


# --- SAPO


def test_a_segment_of_the_demonstration_is_rejected(sapo: RunResult) -> None:
    run, demonstrations = sapo.run, shown(sapo.run)
    places = set()
    for index in (1, 2, 3):
        asked = {
            (row["prompt_id"], tuple(row["ids"]))
            for row in read_table(run.path(f"round-{index}/sample", "candidates.parquet")).to_pylist()
        }
        assert all(len(ids) <= 3 for _, ids in asked)
        pairs = made(run, index)
        assert len(pairs) > 5
        for pair in pairs:
            name = pair["example_id"].removeprefix(f"round{index}-").rpartition("-")[0]
            chosen, rejected = pair["chosen_ids"], pair["rejected_ids"]
            assert chosen == demonstrations[name]["chosen_ids"]
            (segment,) = (list(ids) for own, ids in asked if own == name)
            before = next(at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other)
            places.add(before)
            if len(rejected) == len(chosen):
                # Only a window of three tokens differs.
                assert rejected[before + 3 :] == chosen[before + 3 :]
            else:
                assert rejected[-1] == segment[-1]
    assert len(places) > 1


def test_the_average_moves_towards_each_policy(sapo: RunResult) -> None:
    """It begins with round 1; round 3 samples from 1/4 of it and 3/4 of round 2, and trains against the same."""
    from safetensors.torch import load_file

    run = sapo.run
    first, second, mean = (
        load_file(run.path(stage, "policy") / "model.safetensors")
        for stage in ("round-1/train", "round-2/train", "round-3/average")
    )
    for name, weight in mean.items():
        torch.testing.assert_close(weight, 0.25 * first[name] + 0.75 * second[name])
    digest = run.record("round-3/average").figures["digest"]
    assert run.record("round-3/sample").inputs["policy"] == run.record("round-3/train").inputs["reference"] == digest
    assert run.record("round-2/sample").inputs["policy"] == run.record("round-1/train").figures["digest"]
    assert not run.exists("round-2/average")


def test_sapo_draws_as_many_pairs_as_it_has_made(sapo: RunResult) -> None:
    for index in (2, 3):
        found = used(sapo.run, index)
        assert len(found) == len(made(sapo.run, index))
        assert set(found.values()) <= {f"generated:{index}", f"generated:{index - 1}"}


# --- online DPO


def test_pairs_of_online_rounds_are_labelled_by_the_judge(online: RunResult) -> None:
    for index in (1, 2, 3):
        pairs = made(online.run, index)
        assert len(pairs) > 0
        longer = [len(pair["rejected"].split()) - len(pair["chosen"].split()) for pair in pairs]
        assert all(difference >= 0 for difference in longer)
        assert {pair["p"] for pair in pairs} == {1.0}
        assert all(longer)
        assert used(online.run, index) == {pair["example_id"]: f"generated:{index}" for pair in pairs}
        policy = "sft" if index == 1 else f"round-{index - 1}/train"
        assert (
            online.run.record(f"round-{index}/sample").inputs["policy"] == online.run.record(policy).figures["digest"]
        )
    sampled = {row["prompt_id"] for row in map(dict, read_examples(online.run.path("data", "prompts.arrow")))}
    held = {row["prompt_id"] for row in map(dict, read_examples(online.run.path("data", "heldout_prompts.arrow")))}
    assert (len(sampled), len(held)) == (16, 4)
    assert not sampled & held


def test_a_run_without_pairs_stops_by_its_win_rate_on_held_out_prompts(online: RunResult) -> None:
    rounds = run_figures(online.run).policies[-3:]
    best = 1
    for index in (2, 3):
        best = index if rounds[index - 1].figures.win_rates[f"round {best}"].mean > 0.5 else best
        assert online.run.record(f"round-{index}/decide").figures["best_round"] == best


def test_the_first_step_of_an_online_round_is_at_log_2(online: RunResult) -> None:
    """The policy of round 1 is its own reference: all margins are 0 before the first step."""
    pairs = made(online.run, 1)
    stored = read_table(online.run.path("round-1/train", "reference.parquet"))
    rows = {pair["example_id"]: pair for pair in pairs}
    own = [rows[name] for name in stored["example_id"].to_pylist()]
    chosen = logps_alone(online.run.path("sft", "policy"), own, "chosen_ids")
    for mine, theirs in zip(chosen, stored["logps"].to_pylist(), strict=True):
        assert theirs[0] == pytest.approx(mine, abs=1e-3)


def test_a_reward_model_judges_online_pairs(averaged: RunResult, reward_model: Path) -> None:
    """p is the sigmoid of the difference of the rewards, and the chosen response has the higher one."""
    model = open_reward_model(str(reward_model), "model")
    for index in (1, 2, 3):
        pairs = made(averaged.run, index)
        assert pairs
        prompts = [pair["prompt"] for pair in pairs]
        won, lost = (model.score(prompts, [pair[side] for pair in pairs]) for side in ("chosen", "rejected"))
        np.testing.assert_allclose([pair["p"] for pair in pairs], 1 / (1 + np.exp(lost - won)), atol=1e-4)
        assert all(pair["p"] > 0.5 for pair in pairs)


def test_the_average_of_adapters_answers_online_prompts(averaged: RunResult) -> None:
    """Of the adapters of rounds 1 and 2, one quarter and three quarters."""
    from safetensors.torch import load_file

    run = averaged.run
    first, second, mean = (
        load_file(run.path(stage, "policy") / "adapter_model.safetensors")
        for stage in ("round-1/train", "round-2/train", "round-3/average")
    )
    assert mean.keys() == first.keys()
    assert any(not torch.equal(first[name], second[name]) for name in mean)
    for name, weight in mean.items():
        torch.testing.assert_close(weight, 0.25 * first[name] + 0.75 * second[name])
    digest = run.record("round-3/average").figures["digest"]
    assert run.record("round-3/sample").inputs["policy"] == run.record("round-3/train").inputs["reference"] == digest
    assert (averaged.policy / "adapter_model.safetensors").is_file()


# --- reports and plans


@pytest.mark.parametrize("name", ["spin", "sapo", "online"])
def test_a_report_shows_the_rounds(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name).run
    figures, contents = run_figures(run), run_contents(run)
    assert figures.method == name
    assert [(entry.offline, entry.generated) for entry in figures.rounds] == [(0, len(used(run, n))) for n in (1, 2, 3)]
    assert headline(contents).startswith(f"DPO on newly made pairs ({name}), 3 rounds")
    assert {"Prompts", "Demonstrations"} & {tile.label for tile in tiles(contents)}
    assert f"method {name}" in dict(facts(contents))["Training"]
    console = Console(width=300, file=io.StringIO())
    console.print(run_tables(figures))
    assert "of which rounds make pairs" in console.file.getvalue()  # type: ignore[attr-defined]
    pairs = contents.pairs
    assert pairs is not None
    assert first_round(pairs) == 1
    assert len(pairs) == sum(len(made(run, index)) for index in (1, 2, 3))
    reasons = pairs["kept"].to_pylist()
    assert sum(row[0] == "kept" for row in reasons) == len(used(run, 1))
    assert (run.root / "report.html").stat().st_size > 100_000
    card = (run.root / "result" / "README.md").read_text(encoding="utf-8")
    assert "Each round" in card
    assert "arXiv 2410.09362" not in card


@pytest.mark.real
def test_a_plan_costs_all_stages(world: Path, tmp_path: Path, sapo: RunResult) -> None:
    """The steps, packs and pairs of the plan are at least those of the run; nothing is written."""
    out = tmp_path / "planned"
    plan = plan_run(config_of(world, out, "sapo", bootstrap={"prompts": 12, "max_new_tokens": 3, "decay": 0.25}))
    found = {stage.name: stage for stage in plan.stages}
    assert set(found) >= {"round-1/sample", "round-1/compose", "round-3/average", "round-3/train", "round-3/tokens"}
    assert found["round-1/sample"].count == 12
    assert found["round-3/train"].count == sapo.run.record("round-3/train").figures["steps"]
    assert found["round-3/compose"].count >= len(used(sapo.run, 3))
    assert all(stage.seconds is not None for stage in plan.stages)
    assert not out.exists()


@pytest.mark.parametrize("recipe", ["spin", "online_dpo"])
def test_a_plan_counts_replayed_pairs(world: Path, tmp_path: Path, recipe: str) -> None:
    scorer = {"evaluation__scorer": "pipeline.test_self_play:shorter"} if recipe == "online_dpo" else {}
    more = {"prompts": 8, "replay": 1}
    plan = plan_run(config_of(world, tmp_path / "run", recipe, bootstrap=more, **scorer), memory=10)
    found = {stage.name: stage.count for stage in plan.stages}
    assert [found[f"round-{index}/compose"] for index in (1, 2, 3)] == [8, 16, 16]


# --- which policies and stages


def stages(**given: Any) -> list[str]:
    values = {"out": "x", "policy": {"model": "m"}, "data": {"demonstrations": {"path": "d"}}}
    found = load_config(None, values | {key.replace("__", "."): value for key, value in given.items()})
    return [stage.name for stage in schedule(found) if stage.name.startswith("round-")]


def test_the_stages_of_a_round_by_hand() -> None:
    parts = ["sample", "bootstrap", "compose", "train", "evaluate", "tokens", "decide"]
    assert stages(recipe="spin", rounds=1) == [f"round-1/{part}" for part in parts]
    assert stages(recipe="sapo", rounds=3) == [
        *(f"round-1/{part}" for part in parts),
        *(f"round-2/{part}" for part in parts),
        *(f"round-3/{part}" for part in ["average", *parts]),
    ]


def test_policies_of_the_rounds_by_hand() -> None:
    def of(recipe: str, **more: Any) -> list[tuple[str, str | None, list[str]]]:
        keys = {"out": "x", "world": {}, "recipe": recipe, "rounds": 4} | more
        found = rounds(load_config(None, keys))
        return [(each.reference, each.sample_from, [one.policy for one in each.reward_policies]) for each in found]

    assert of("spin") == [("reference", "initial", []), *[(f"round-{n}", f"round-{n}", []) for n in (1, 2, 3)]]
    average = [("round-3/average",) * 2, ("round-4/average",) * 2]
    assert of("sapo") == [
        ("reference", "initial", []), ("round-1", "round-1", []), *[(*both, []) for both in average],
    ]  # fmt: skip
    # A policy that has a reference of its own ranks its answers from the first round on (DICE, 2406.09760).
    implicit = {"reference": {"model": "r"}, "bootstrap": {"labels": "reward", "samples": 4}}
    assert of("online_dpo", **implicit) == [
        ("reference", "initial", ["initial"]),
        ("reference", "round-1", ["round-1", "initial"]),
        ("reference", "round-2", ["round-2", "round-1"]),
        ("reference", "round-3", ["round-3", "round-2"]),
    ]


# --- what is refused

PAIRLESS: dict[str, Any] = {"out": "x", "policy": {"model": "m"}}
SHOWN = {"data": {"demonstrations": {"path": "d"}}}
ASKED = {"data": {"prompts": {"path": "p"}}}


@pytest.mark.parametrize(
    ("recipe", "keys", "says"),
    [
        ("spin", {}, r"data\.demonstrations is missing: bootstrap\.method: spin makes its pairs of them"),
        ("online_dpo", {}, r"data\.prompts is missing: bootstrap\.method: online makes its pairs of them"),
        ("sera", SHOWN, r"data\.pairs is missing"),
        ("spin", SHOWN | {"reference.update": "never"}, r"reference: with bootstrap\.method: spin the ref"),
        ("spin", SHOWN | {"reference.model": "r"}, r"reference: with bootstrap\.method: spin the ref"),
        ("spin", SHOWN | {"bootstrap.sample_from": "initial"}, r"bootstrap\.sample_from: initial: the opponent"),
        ("spin", SHOWN | {"bootstrap.labels": "judge"}, r"bootstrap\.labels: judge compares sampled responses"),
        ("spin", SHOWN | {"bootstrap.selection.rule": "top"}, r"bootstrap\.selection\.rule: top selects by margin"),
        ("spin", SHOWN | {"objective.name": "sft", "rounds": 1}, r"bootstrap\.method: spin trains on pairs, and sft"),
        ("spin", SHOWN | {"objective.name": "plackett_luce"}, r"bootstrap\.method: spin makes pairs, and pl"),
        ("spin", SHOWN | {"crossfit": {}}, r"crossfit: it reviews offline pairs, and bootstrap\.method: spin has"),
        ("spin", SHOWN | {"selection.fraction": 0.5}, r"selection: it is of offline pairs"),
        ("spin", SHOWN | {"bootstrap.shares": [0.5]}, r"bootstrap\.shares are of generated and offline pairs"),
        ("spin", SHOWN | {"evaluation.baseline": True}, r"evaluation\.baseline: it is trained on offline pairs"),
        ("spin", SHOWN | {"scoring.reward": "model", "scoring.reward_models": ["r"]},
         r"scoring\.reward: model ranks sampled responses"),
        ("sapo", SHOWN | {"bootstrap.engine": "server", "bootstrap.engine_options": {"url": "http://x", "model": "m"}},
         r"bootstrap\.engine: server answers whole conversations"),
        ("sapo", SHOWN | {"bootstrap.sample_from": "policy"}, r"reference\.update: average is the average that"),
        ("sapo", SHOWN | {"bootstrap.sample_from": "policy", "bootstrap.decay": 0.9}, r"bootstrap\.decay is of"),
        ("sapo", SHOWN | {"policy": {"model": "m", "lora": {}, "start": "initial"}},
         r"policy\.start: initial: with policy\.lora, each round trains a new adapter"),
        ("online_dpo", ASKED | {"bootstrap.labels": "reward"}, r"bootstrap\.labels: reward has nothing to rank"),
        ("online_dpo", ASKED | {"bootstrap.labels": "reward", "objective": {"name": "simpo"}},
         r"bootstrap\.labels: .* without a reference, only says how likely it finds them; set .*judge or queue$"),
        ("online_dpo", ASKED | {"bootstrap.samples": 4}, r"bootstrap\.samples: 4: a labeller compares two"),
        ("online_dpo", ASKED | {"bootstrap.query.budget": 4}, r"bootstrap\.query\.strategy: uncertainty is that of"),
        ("online_dpo", ASKED | {"bootstrap.selection.rule": "top"}, r"bootstrap\.selection\.rule: top selects by"),
        ("online_dpo", ASKED | {"scoring.length_correction": "offline"}, r"scoring\.length_correction: offline is"),
        ("online_dpo", ASKED | {"data.demonstrations": {"path": "d"}}, r"data\.demonstrations are for sft, AIHF, SPIN"),
        ("sera", {"data": {"pairs": {"path": "p"}}, "bootstrap.replay": 1}, r"bootstrap\.replay is for the methods"),
        ("sera", {"data": {"pairs": {"path": "p"}}, "bootstrap.decay": 0.9}, r"bootstrap\.decay is of sample_from"),
        ("sera", {"data": {"pairs": {"path": "p"}}, "reference.update": "average"}, r"reference\.update: average is"),
    ],
)  # fmt: skip
def test_settings_without_a_meaning_are_refused(recipe: str, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        load_config(None, PAIRLESS | {"recipe": recipe} | keys)


@pytest.mark.parametrize("keys", [{"policy.start": "previous"}, {"sft": {}}])
def test_adapters_that_begin_alike_can_be_averaged(keys: dict[str, Any]) -> None:
    policy = {"model": "m", "lora": {}, "start": "initial"}
    config = load_config(None, PAIRLESS | {"recipe": "sapo"} | SHOWN | {"policy": policy} | keys)
    assert config.bootstrap is not None
    assert config.bootstrap.sample_from == "average"


def test_a_round_without_pairs_is_one_error(world: Path, tmp_path: Path) -> None:
    """With one token at most, hardly any response is finished and not empty."""
    with pytest.raises(DataError, match=r"^round-1: no pairs to train on \(\d+ (unfinished|empty)"):
        train(config_of(world, tmp_path / "run", "spin", sft=None, bootstrap={"prompts": 6, "max_new_tokens": 1}))


def same(prompts: list[str], responses: list[str]) -> list[float]:
    """A scorer that finds all responses equal."""
    return [1.0] * len(responses)


def test_a_judge_that_finds_all_answers_equal_is_one_error(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"sft": None, "data__demonstrations": None, "rounds": 1, "evaluation__prompts": 0}
    with pytest.raises(DataError) as error:
        train(
            config_of(world, tmp_path / "run", "online_dpo", evaluation__scorer="pipeline.test_self_play:same", **keys)
        )
    text = str(error.value)
    assert re.match(r"round-1: no pairs to train on \(.*\d+ tie\); ", text)
    assert "give a judge or a scorer that tells the answers apart (evaluation.judge, evaluation.scorer)" in text
    assert text.endswith("begin a new run in another one (--out)")
    assert "warning: round-1: the judge cannot tell the two answers apart in" in " ".join(
        capsys.readouterr().err.split()
    )
    # What the error advises works; in the same folder, it is refused.
    changed = {"evaluation__scorer": "pipeline.test_self_play:shorter", "training__max_steps": 1} | keys
    with pytest.raises(StoreError, match=r"or another folder \(--out\)$"):
        train(config_of(world, tmp_path / "run", "online_dpo", **changed))
    done = train(config_of(world, tmp_path / "other", "online_dpo", **changed)).run
    assert done.record("round-1/compose").figures["generated"] > 0


def test_a_judge_is_needed(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^bootstrap\.labels: judge needs evaluation\.scorer"):
        train(config_of(world, tmp_path / "run", "online_dpo", sft=None, data__demonstrations=None))


def test_a_stopping_rule_needs_what_it_measures(world: Path, tmp_path: Path) -> None:
    none = {"data__heldout_fraction": 0.0, "evaluation__scorer": "pipeline.test_self_play:shorter"}
    with pytest.raises(ConfigError, match=r"^stop\.metric: win_rate needs held-out prompts; set data\.heldout_prompts"):
        train(config_of(world, tmp_path / "run", "spin", stop__metric="win_rate", **none))
    with pytest.raises(ConfigError, match=r"^stop\.metric: margin_accuracy needs held-out pairs"):
        train(config_of(world, tmp_path / "run", "spin", stop__metric="margin_accuracy"))

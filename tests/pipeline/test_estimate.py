"""The plan of a run against the run itself, and its arithmetic by hand."""

from __future__ import annotations

import gc
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import small_config
from tiny import read_pairs

import seralign.pipeline.context as context
import seralign.pipeline.training as loop_training
import seralign.rewards.cached_logprobs as scoring
from seralign.config import LoraConfig, ReferenceConfig, RunConfig, WorldConfig
from seralign.laboratory.world import make_world
from seralign.pipeline import RunResult, train
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.data import Tables
from seralign.pipeline.forecast.foreseen import Cache, Lengths
from seralign.pipeline.forecast.work import Passes, Sampling, StageWork, Steps
from seralign.pipeline.opening import carry_out_opening, opened_context
from seralign.pipeline.plan import RunPlan, bench, measure, plan_run
from seralign.pipeline.plan.costs import Costs, Line, SamplingCosts, StepCosts, fit_bytes, fit_seconds, slope_error
from seralign.pipeline.plan.disk import stored_bytes
from seralign.pipeline.plan.estimate import (
    MARGIN,
    NEARLY,
    Measured,
    Misfit,
    Saved,
    estimate_stages,
    misfits,
    sampling_bytes,
    stage_bytes,
    stage_error,
    stage_extrapolation,
    stage_seconds,
)
from seralign.pipeline.plan.remedies import static_misfits, with_remedies
from seralign.pipeline.plan.sizes import QUICK, Budget, Guard, ladder
from seralign.pipeline.plan.workload import workload
from seralign.pipeline.stage import Context
from seralign.pipeline.start import started
from seralign.runs import Run
from seralign.runs.cache import check_cache, made_keys
from seralign.runs.files import read_table
from seralign.runs.layout import LOGPS
from seralign.training.moving import MovingReference
from seralign.training.plan import Plan

LONG = Lengths(2**31, 2**31)


@dataclass(frozen=True)
class Done:
    """A run that was watched: its plans of training, and the tokens of each forward pass of scoring, by stage."""

    result: RunResult
    plans: dict[str, Plan]
    responses: dict[str, int]

    def figures(self, stage: str) -> dict[str, Any]:
        return self.result.run.record(stage).figures


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The small run: sft, three rounds, the baseline."""
    return watched(small_config(tmp_path_factory.mktemp("estimate") / "run"))


def watched(config: RunConfig) -> Done:
    """Run it, and keep the plans of its trainings and the numbers of responses that were scored, by stage."""
    plans: dict[str, Plan] = {}
    responses: defaultdict[str, int] = defaultdict(int)
    stage = ""
    plan_training, forward, say = loop_training.plan_training, scoring.forward, context.say

    def watch_stage(text: str) -> None:
        nonlocal stage
        stage = text.strip("[]")
        say(text)

    def watch_plan(*given: Any, **options: Any) -> Plan:
        plans[stage] = plan_training(*given, **options)
        return plans[stage]

    def watch_forward(model: Any, table: Any, pack: np.ndarray, policy: Any) -> np.ndarray:
        responses[stage] += len(pack)
        return forward(model, table, pack, policy)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(context, "say", watch_stage)
        patched.setattr(loop_training, "plan_training", watch_plan)
        patched.setattr(scoring, "forward", watch_forward)
        result = train(config)
    return Done(result, plans, dict(responses))


@dataclass(frozen=True)
class Setting:
    """A run that has its data and nothing else."""

    loop: Loop
    tables: Tables
    base: Policy

    def work(self, lengths: Lengths = LONG, **config: Any) -> list[StageWork]:
        loop = replace(self.loop, config=replace(self.loop.config, **config))
        return workload(self.context(loop), lengths, longest=2**62)

    def context(self, loop: Loop) -> Context:
        return Context(loop, self.tables, self.base, None)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("setting")
    return prepared(Run(folder), small_config(folder))


def prepared(run: Run, given: RunConfig) -> Setting:
    """A run up to its data."""
    with started(run, given, None) as start:
        carry_out_opening(start)
        found = opened_context(start, "float32")
        return Setting(found.opened, found.tables, found.given_base)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    """The small run's plan, measured, on a clock that runs slowly: however busy the machine, all is timed."""
    return plan_run(small_config(tmp_path_factory.mktemp("planned") / "run"), now=lambda: time.monotonic() / 1000)


# --- the work, against the run


def by_name(work: Sequence[StageWork]) -> dict[str, StageWork]:
    return {stage.name: stage for stage in work}


def test_stages_are_those_of_the_run_in_their_order(done: Done, setting: Setting) -> None:
    ran = [record.name for record in done.result.run.stages()]
    without = {"precision", "policies", "result"} | {name for name in ran if name.endswith("/decide")}
    assert [stage.name for stage in setting.work()] == [name for name in ran if name not in without]


@pytest.mark.parametrize("name", ["sft", "round-1/train", "round-2/train", "round-3/train", "baseline/train"])
def test_steps_are_those_of_the_run(done: Done, setting: Setting, name: str) -> None:
    steps = by_name(setting.work())[name].steps
    assert steps is not None
    assert steps.count == done.figures(name)["steps"] == done.plans[name].steps


@pytest.mark.parametrize("name", ["sft", "round-1/train", "baseline/train"])
def test_packs_are_those_of_the_run_where_its_rows_are_known(done: Done, setting: Setting, name: str) -> None:
    steps = by_name(setting.work())[name].steps
    assert steps is not None
    plan = done.plans[name]
    assert len(steps.tokens) == len(plan.packs)
    assert steps.accumulation == plan.accumulation
    assert steps.accumulation > 1 or name == "sft", "the budget of the small run divides steps"
    whole = [len(row["prompt_ids"]) for row in setting.tables.pairs]  # pyright: ignore
    if name == "round-1/train":
        rows = np.concatenate([pack.rows for pack in plan.packs if pack.counts])
        assert steps.shared == sum(whole[row] for row in rows)
        assert steps.padding == 0


@pytest.mark.parametrize(
    "name",
    ["initial/evaluate", "round-1/train", "round-1/evaluate", "round-2/score", "round-2/evaluate", "round-3/score",
     "baseline/train", "baseline/evaluate"],
)  # fmt: skip
def test_scored_responses_are_those_of_the_run(done: Done, setting: Setting, name: str) -> None:
    stage = by_name(setting.work())[name]
    heldout = 2 * len(setting.tables.heldout) if stage.steps is not None else 0
    # What the trainer measures after its steps is no scoring; before them it takes what the evaluation found.
    assert sum(part.responses for part in stage.passes) - heldout == done.responses.get(name, 0)


@pytest.mark.parametrize("index", [2, 3])
def test_counts_of_a_review_are_those_of_the_run(done: Done, setting: Setting, index: int) -> None:
    work, name = by_name(setting.work()), f"round-{index}"
    assert work[f"{name}/select"].count == done.figures(f"{name}/select")["kept"]
    assert work[f"{name}/sample"].count == done.figures(f"{name}/sample")["responses"]
    # Prompts that give no pair are not foreseen.
    assert work[f"{name}/bootstrap"].count >= done.figures(f"{name}/bootstrap")["pairs"]
    composed = done.figures(f"{name}/compose")
    assert work[f"{name}/compose"].count >= composed["offline"] + composed["generated"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"reference__update": "each_round"},
        {"policy__start": "initial"},
        {"objective__name": "simpo"},
        {"data__heldout_fraction": 0.0, "world": None},
        {"crossfit": {"folds": 3}, "rounds": 1},
    ],
    ids=["reference.update", "policy.start", "simpo", "nothing held out", "crossfit"],
)
def test_other_runs_are_planned_as_they_run(tmp_path: Path, overrides: dict[str, Any]) -> None:
    """Stages in their order, steps, packs where the rows are known, and how many responses are scored."""
    less = {"evaluation__baseline": False, "sft": None, "training__max_steps": 3, "evaluation__token_pairs": 0}
    if "world" in overrides:
        # A world always holds pairs out; files of the user's need not.
        make_world(WorldConfig(pairs=60, demonstrations=8, prompts=8, heldout=8), tmp_path / "world")
        files = {"data__pairs": {"path": str(tmp_path / "world" / "pairs.jsonl")}}
        overrides = overrides | files | {"policy__model": str(tmp_path / "world" / "model")}
    done = watched(small_config(tmp_path / "run", **less, **overrides))
    work = prepared(Run(tmp_path / "plan"), small_config(tmp_path / "plan", **less, **overrides)).work()
    other = {"precision", "policies", "result"}
    ran = [record.name for record in done.result.run.stages()]
    assert [stage.name for stage in work] == [name for name in ran if name not in other and "decide" not in name]
    for stage in work:
        if stage.steps is not None:
            assert stage.steps.count == done.figures(stage.name)["steps"] == done.plans[stage.name].steps
        if stage.name == "round-1/train":
            assert stage.steps is not None
            assert len(stage.steps.tokens) == len(done.plans[stage.name].packs)
        if stage.name.endswith("/select"):
            assert stage.count == done.figures(stage.name)["kept"]
        # The answers to prompts that are sampled, and the pairs that are made of them, are not foreseen in number.
        if stage.name.endswith("/score") or stage.name in ("round-1/train", "crossfit/review"):
            passes = sum(part.responses for part in stage.passes)
            heldout = 2 * done.figures("data")["heldout"] if stage.steps is not None else 0
            assert passes - heldout == done.responses.get(stage.name, 0)


def test_top_within_prompt_keeps_pairs_of_every_prompt_as_planned(tmp_path: Path) -> None:
    make_world(WorldConfig(pairs=60, demonstrations=8, prompts=8, heldout=8), tmp_path / "world")
    rows = [json.loads(line) for line in (tmp_path / "world" / "pairs.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["prompt"] = rows[3 * (number // 3)]["prompt"]  # three pairs a prompt, two of which are kept
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    rule = {"rule": "top_within_prompt", "fraction": 0.5}
    settings = {"sft": None, "world": None, "rounds": 2, "selection": rule, "data__pairs": {"path": str(file)},
                "policy__model": str(tmp_path / "world" / "model"), "data__heldout_fraction": 0.0,
                "evaluation__baseline": False, "evaluation__token_pairs": 0}  # fmt: skip
    run = watched(small_config(tmp_path / "run", **settings)).result.run

    prompts = read_pairs(run.path("data", "pairs.arrow"))["prompt_id"][:]
    table = read_table(run.path("round-2/select", "selection.parquet")).to_pylist()
    assert len(table) == len(prompts) == 60
    for prompt in set(prompts):
        own = sorted(
            (row for row, asked in zip(table, prompts, strict=True) if asked == prompt), key=lambda r: r["rank"]
        )
        assert [row["reason"] for row in own] == ["kept", "kept", "below the top 50% of its prompt"]
    composed = read_table(run.path("round-2/compose", "training.parquet")).to_pylist()
    used = {row["example_id"] for row in composed if row["used"] and row["origin"] == "offline"}
    of_prompt = dict(zip([row["example_id"] for row in table], prompts, strict=True))
    # At most 17 pairs are generated, so all 40 fit.
    assert {of_prompt[name] for name in used} == set(prompts)
    assert run.record("round-2/compose").figures["offline"] == len(used) == 40
    plan = prepared(Run(tmp_path / "plan"), small_config(tmp_path / "plan", **settings)).work()
    assert {stage.name: stage.count for stage in plan}["round-2/select"] == 40


def test_pairs_whose_tokens_are_looked_at_are_foreseen(done: Done, setting: Setting) -> None:
    stage = by_name(setting.work())["round-1/tokens"]
    assert stage.count == done.figures("round-1/tokens")["pairs"] == 60
    assert [part.responses for part in stage.passes] == [120, 120]
    none = replace(setting.loop.config.evaluation, token_pairs=0)
    assert not [stage for stage in setting.work(evaluation=none) if stage.name.endswith("/tokens")]


def test_without_sft_baseline_and_bootstrap_their_stages_are_left_out(setting: Setting) -> None:
    evaluation = replace(setting.loop.config.evaluation, baseline=False)
    data = replace(setting.loop.config.data, demonstrations=None)
    less = setting.work(sft=None, data=data, evaluation=evaluation, bootstrap=None, rounds=2)
    names = [stage.name for stage in less]
    assert names == ["world", "data", "initial/evaluate", "round-1/train", "round-1/evaluate", "round-1/tokens",
                     "round-2/score", "round-2/select", "round-2/compose", "round-2/train", "round-2/evaluate",
                     "round-2/tokens"]  # fmt: skip


def test_a_model_that_takes_no_packed_rows_is_padded(setting: Setting) -> None:
    loop = replace(setting.loop, packed_length=0)
    work = by_name(workload(setting.context(loop), LONG, longest=0))
    steps = work["round-1/train"].steps
    assert steps is not None
    assert steps.padding > 0
    assert steps.shared == 0
    assert steps.tokens.max() <= loop.config.training.tokens_per_pack


def test_the_cache_is_foreseen() -> None:
    cache, keys = Cache(), made_keys(letter * 16 for letter in (b"a", b"b", b"c", b"d"))
    first, second = np.array([0, 1]), np.array([2, 3])
    assert cache.missing("p", keys, [first, second]) == [first, second]
    assert cache.missing("p", keys, [first, second]) == []
    assert len(cache) == 4
    assert cache.missing("q", keys, [first], exact=True) == [first]
    assert cache.missing("q", keys, [first], exact=True) == []
    assert len(cache) == 4 + 2 * 2, "under its key, and under that of its company"
    (again,) = cache.missing("q", keys, [np.array([0, 2])], exact=True)
    assert again.tolist() == [0, 2], "the same response in other company"
    assert cache.missing("q", keys, [np.array([0]), np.array([2])]) == []


# --- seconds and bytes, by hand


def measured(base: float = 1000.0) -> Measured:
    """Round numbers: a token of a step takes 10 bytes and 2 s, one of a pass 4 and 1 s, a sampled row 50 bytes."""
    passes = Costs(Line(3.0, 1.0), Line(base, 4.0), 50)
    steps = StepCosts(Costs(Line(5.0, 2.0), Line(base, 10.0), 50), 7.0, 11.0, 0, 100, 200)
    sampling = SamplingCosts(0.5, 2.0, 0.25, Line(base, 1.0), Line(base, 50.0), 10, 4, 3, 10**9)
    sections = ("sft", "training")
    every = {"scoring": passes} | dict.fromkeys(sections, passes)
    return Measured(every, dict.fromkeys(sections, steps), sampling, loading=13, idle=700)


def test_seconds_of_a_training_by_hand() -> None:
    """Set-up 11, a load 13, packs 2 x 5 + 2 x 30, 2 steps x 7, a pass 3 + 8."""
    steps = Steps("training", 2, 1, np.array([10, 20]), 10, 0, 0)
    stage = StageWork("x", 2, "steps", steps, (Passes("training", 2, np.array([8]), 4),), loads=1)
    assert stage_seconds(stage, measured()) == 11 + 13 + 70 + 14 + 11
    assert stage.tokens == 38


def test_seconds_and_bytes_of_loading_a_model_by_hand() -> None:
    """Three loads of 13 s; 300 bytes on top of the 700 that the process has anyway."""
    stage = StageWork("base", 1, "model", loads=3, bytes=300)
    assert stage_seconds(stage, measured()) == 39
    assert stage_bytes(stage, measured()) == 1000
    assert stage_bytes(StageWork("data", 4, "pairs"), measured()) is None


def test_loading_needs_its_own_bytes_whatever_the_pass(setting: Setting) -> None:
    """Passes of 8 tokens take 1000 + 4 x 8 bytes; loading takes 5000, before the weights are cast."""
    costs = measured()
    stage = StageWork("x", 2, "responses", passes=(Passes("scoring", 2, np.array([8]), 4),))
    assert stage_bytes(stage, costs) == 1032
    passes = {name: replace(each, loading_bytes=5000) for name, each in costs.passes.items()}
    costs = replace(costs, passes=passes)
    assert stage_bytes(stage, costs) == 5000
    assert stage_bytes(stage, costs, Saved(passes=100)) == 4900
    found = [each for each in misfits(setting.loop.config, setting.work(), costs, 6000) if "scoring" in each.what]
    assert found == [Misfit("scoring.tokens_per_pack", 5000, {})], "no smaller pack helps"


def test_seconds_and_bytes_of_sampling_by_hand() -> None:
    """Batches of 4 and 2 prompts, 5 and 7 tokens wide, 3 responses each of 6 tokens and at most 9.

    Prompts (20 + 14) x 0.5, 2 batches x 9 steps x 2, 18 rows x 6 tokens x 0.25. At the peak 4 x 3 rows take 50 bytes
    each after 10 tokens, and 3 for each of the 7 + 9 - 10 that follow.
    """
    sampling = Sampling("bootstrap", np.array([4, 2]), np.array([5, 7]), 3, Lengths(6, 9))
    stage = StageWork("x", 18, "responses", sampling=sampling)
    assert stage_seconds(stage, measured()) == 17 + 36 + 27
    costs = measured().sampling
    assert costs is not None
    assert sampling_bytes(sampling, costs, 4) == 1000 + 12 * 50 + 12 * 6 * 3
    full = replace(costs, most_bytes=12 * 10 * 3 + 5)
    assert sampling_bytes(sampling, full, 4) == 1000 + 12 * 50 + 5
    assert stage.tokens == 34 + 18 * 6


def test_lines_by_hand() -> None:
    line = fit_seconds([(1, 3.0), (2, 5.0), (3, 7.0)])
    assert (line.base, line.slope) == pytest.approx((1.0, 2.0))
    assert fit_seconds([(4, 2.0), (4, 6.0)]) == Line(0.0, 1.0)
    falling = fit_seconds([(1, 4.0), (2, 2.0)])
    assert falling == Line(0.0, 2.0), "noise gives no line that falls"
    above = fit_bytes([(0, 100), (10, 190), (20, 300)], idle=50)
    assert above.slope == pytest.approx(10.0)
    assert [above.at(x) for x in (0, 10, 20)] == pytest.approx([100, 200, 300])
    assert fit_bytes([(10, 150)], idle=50) == Line(50.0, 10.0)
    assert Line(100.0, 10.0).reaches(155) == 5
    assert Line(100.0, 10.0).reaches(99) == -1


def test_sizes_to_measure_double_and_stop_in_time() -> None:
    assert [len(step) for step in ladder(np.arange(20))] == [1, 2, 5, 10, 20]
    assert [len(step) for step in ladder(np.arange(1))] == [1]
    now = 1000.0
    guard = Guard.of(limit=100, idle=10, budget=Budget(now + 12, lambda: now))
    assert guard.allows(10**9, [])
    assert guard.allows(20, [(10, 0.1, 40)])
    assert not guard.allows(40, [(10, 0.1, 40)]), "10 + 4 x 30 bytes are more than 100"
    assert not guard.allows(20, [(10, 10.0, 40)]), "20 s are more than 12"
    assert guard.allows(20, [(10, 5.0, 40)])
    assert guard.allows(30, [(1, 0.2, 11)]), "what is quick does not grow in proportion"
    assert guard.allows(40, [(5, 5.0, 11), (10, 5.5, 12)]), "half a second for 5 tokens more, one and a half times 3 s"
    assert not guard.allows(130, [(5, 5.0, 11), (10, 5.5, 12)])
    assert not guard.allows(10**4, [(5, 0.1, 40), (10, 0.1, 41)]), "0.3 bytes a token more: 3,000"
    now += 13
    assert not guard.allows(20, [(10, 0.1, 40)]), "the time is over"


def test_a_part_of_a_budget_ends_with_the_whole() -> None:
    now = 100.0
    budget = Budget(110.0, lambda: now)
    assert (budget.left, budget.part(4).left, budget.part(40).left) == (10, 4, 10)
    part, now = budget.part(4), 108.0
    assert (budget.left, part.left, budget.part(4).left) == (2, 0, 2)
    now = 120.0
    assert (budget.left, budget.part(4).left) == (0, 0)


@given(
    st.integers(1, 400), st.floats(0, 5), st.floats(1e-4, 1), st.lists(st.floats(1, 1.4), min_size=9, max_size=9)
)  # fmt: skip
def test_measuring_ends_in_time_on_a_machine_that_slows_down(
    rows: int, fixed: float, each: float, loads: list[float]
) -> None:
    """Sizes whose time is a line, times up to 1.4 by other work: it ends with the budget, or at most a half later.

    A step that is slow after a fast one can take longer than the two before it let expect.
    """
    now = 0.0
    guard = Guard.of(2.0**60, 0, Budget(20.0, lambda: now))
    points: list[tuple[int, float, int]] = []
    for load, step in zip(loads, ladder(np.arange(rows)), strict=False):
        if not guard.allows(len(step), points):
            break
        took = load * (fixed + each * len(step))
        now += took
        points.append((len(step), took, 1))
    assert now <= 30.0 or len(points) == 1 or points[-2][1] < QUICK * 20.0


def test_errors_of_lines_by_hand() -> None:
    """Three points on a line; with residuals of 1, -2, 1: slope 10, s² = 6 / 1, Sxx = 2, t of one degree 6.314."""
    exact = [(1, 3.0), (2, 5.0), (3, 7.0)]
    assert slope_error(exact, fit_seconds(exact)) == pytest.approx(0, abs=1e-9)
    rough = [(1, 16.0), (2, 23.0), (3, 36.0)]
    line = fit_seconds(rough)
    assert (line.base, line.slope) == pytest.approx((5.0, 10.0))
    assert slope_error(rough, line) == pytest.approx(6.3138 * (6 / 2) ** 0.5 / 10, rel=1e-4)
    assert slope_error(exact[:2], fit_seconds(exact[:2])) is None, "two points say nothing about a line"


def test_errors_of_stages_by_hand() -> None:
    """A pass of 100 tokens takes 3 + 100 s, of which a tenth of the 100 is not known."""
    work = StageWork("x", 2, "steps", passes=(Passes("scoring", 2, np.array([100]), 4),))
    costs = measured()
    assert stage_error(work, costs) is None, "not known from one or two points"
    passes = {"scoring": replace(costs.passes["scoring"], error=0.1)}
    assert stage_error(work, replace(costs, passes=passes)) == pytest.approx(10 / 103)
    timed = StageWork("x", 2, "steps", passes=(Passes("scoring", 2, np.array([60]), 4),))
    assert stage_error(timed, replace(costs, passes=passes)) is None, "it was measured"


def test_what_is_larger_than_what_was_timed_is_told_as_extrapolated() -> None:
    """Passes and steps were timed up to 50 tokens, sampling up to 4 rows."""

    def factor(**work: Any) -> float | None:
        return stage_extrapolation(StageWork("x", 2, "steps", **work), measured())

    assert factor() is None
    assert factor(passes=(Passes("scoring", 2, np.array([8, 50]), 4),)) == 1.0
    assert factor(passes=(Passes("scoring", 2, np.array([100, 50]), 4),)) == 2.0
    assert factor(steps=Steps("training", 2, 1, np.array([10, 125]), 10, 0, 0)) == 2.5
    assert factor(sampling=Sampling("bootstrap", np.array([4, 2]), np.array([5, 7]), 3, Lengths(6, 9))) == 3.0


def test_measurements_of_no_time_end_after_the_short_rows(tmp_path: Path, planned: RunPlan) -> None:
    """On a clock on which the data take all the time of the plan."""
    readings = itertools.count(0, 60)
    hasty = plan_run(small_config(tmp_path / "run"), now=lambda: next(readings))

    assert {stage.name for stage in hasty.stages if stage.tokens} == {s.name for s in planned.stages if s.tokens}
    factors = [stage.extrapolated for stage in hasty.stages if stage.tokens]
    assert max(factor or 0 for factor in factors) > 4
    assert hasty.seconds is not None
    assert any("extrapolated" in note for note in hasty.notes)
    assert any("the time of a plan was over" in note for note in hasty.notes)
    assert not any("the time of a plan was over" in note for note in planned.notes)
    assert {stage.name: stage.extrapolated for stage in planned.stages if (stage.extrapolated or 0) > NEARLY} == {}
    assert not any("extrapolated" in note and "sampled" not in note for note in planned.notes)


def test_passes_are_timed_on_weights_that_are_cast_as_the_run_casts_them(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring and training share a kind. Supervised training in float32 has the same stored weights, but another."""
    config = setting.loop.config
    assert config.sft is not None
    config = replace(
        config,
        scoring=replace(config.scoring, dtype="bfloat16"),
        training=replace(config.training, precision="bfloat16"),
        sft=replace(config.sft, precision="float32"),
    )
    timed: list[tuple[str, torch.dtype, torch.dtype]] = []

    def measure_passes(model: Any, precision: str, *_: Any) -> Costs:
        layer = model.get_decoder().layers[0]
        timed.append((precision, layer.mlp.up_proj.weight.dtype, layer.input_layernorm.weight.dtype))
        return Costs(Line(0, 1), Line(0, 1), 1)

    nothing: Any = None
    monkeypatch.setattr(bench, "measure_passes", measure_passes)
    monkeypatch.setattr(bench, "measure_steps", lambda *_: nothing)
    monkeypatch.setattr(bench, "measure_sampling", lambda *_: nothing)
    load, events = bench.load_model, list[str]()
    monkeypatch.setattr(bench, "load_model", lambda *args, **keys: events.append("load") or load(*args, **keys))
    monkeypatch.setattr(bench, "forget_peak", lambda: events.append("forget"))
    monkeypatch.setattr(bench, "peak", lambda: events.append("peak") or 700 + len(events))
    bench_of = bench.Bench(replace(setting.loop, config=config), setting.tables, setting.base, Budget(0.0, lambda: 0.0))
    found, _ = bench_of.measure(2**40)
    assert timed == [("bfloat16", torch.bfloat16, torch.float32), ("float32", torch.float32, torch.float32)]
    assert found.passes["scoring"] == found.passes["training"]
    assert events == 2 * ["forget", "load", "peak"]
    assert {costs.loading_bytes for costs in found.passes.values()} == {703, 706}


def test_a_reference_that_moves_takes_the_memory_of_the_trained_weights(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of the peak: the bytes of the references that are there while steps are timed."""
    measured = []
    for sync_steps in (None, 2):
        config = replace(setting.loop.config, reference=ReferenceConfig(sync_steps=sync_steps, update="each_round"))
        loop = replace(setting.loop, config=config)
        there = lambda: sum(each.size for each in gc.get_objects() if type(each) is MovingReference)  # noqa: E731
        monkeypatch.setattr(measure, "peak", there)
        bench_of = bench.Bench(loop, setting.tables, setting.base, Budget(0.0, lambda: 0.0))
        measured.append(bench_of.steps("training", config.training, config.policy, 2**40, 0.1))
    fixed, moving = measured
    assert (fixed.whole, moving.whole) == (0, moving.saved_bytes)
    assert moving.state_bytes == fixed.state_bytes + moving.saved_bytes
    assert moving.saved_bytes > 0


# --- what does not fit


CHECKED = ["sft.tokens_per_pack", "training.tokens_per_pack", "scoring.tokens_per_pack"]


def with_settings(config: RunConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """Sections of a configuration with dotted settings, as ``replace`` takes them."""
    changed: dict[str, Any] = {}
    for key, value in settings.items():
        section, name = key.split(".")
        own = changed.get(section, getattr(config, section))
        given = {name: value} if hasattr(own, name) else {"sampling": replace(own.sampling, **{name: value})}
        changed[section] = replace(own, **given)
    return changed


@pytest.mark.parametrize("memory", [1000 + 2000, 1000 + 1000])
def test_a_smaller_budget_is_found_and_fits(setting: Setting, memory: int) -> None:
    config, costs = setting.loop.config, measured()
    limit = MARGIN * memory
    found = [misfit for misfit in misfits(config, setting.work(), costs, memory) if misfit.what in CHECKED]
    assert {"training.tokens_per_pack", "scoring.tokens_per_pack"} <= {misfit.what for misfit in found}
    for misfit in found:
        assert misfit.needed_bytes > limit
        tokens = misfit.settings[misfit.what]
        slope = 4 if misfit.what.startswith("scoring") else 10
        assert 1000 + slope * tokens <= limit < 1000 + slope * (tokens + 1), "the largest that fits"
    changed = with_settings(config, {key: value for misfit in found for key, value in misfit.settings.items()})
    again = misfits(replace(config, **changed), setting.work(**changed), costs, memory)
    assert not [misfit for misfit in again if misfit.what in CHECKED]


def test_a_smaller_batch_is_found_and_fits(setting: Setting) -> None:
    config, costs = setting.loop.config, measured()
    memory = 3000  # of which 1700 for 8 x 3 rows of 50 bytes, and 3 for each token after the tenth
    found = {misfit.what: misfit for misfit in misfits(config, setting.work(), costs, memory)}
    misfit = found["bootstrap.batch_size"]
    size = misfit.settings["bootstrap.batch_size"]
    assert 1 <= size < 8
    changed = with_settings(config, misfit.settings)
    again = misfits(replace(config, **changed), setting.work(**changed), costs, memory)
    assert "bootstrap.batch_size" not in [misfit.what for misfit in again]
    changed = with_settings(config, {"bootstrap.batch_size": size + 1})
    again = misfits(replace(config, **changed), setting.work(**changed), costs, memory)
    assert "bootstrap.batch_size" in [misfit.what for misfit in again]


def test_enough_memory_fits(setting: Setting) -> None:
    assert misfits(setting.loop.config, setting.work(), measured(), 10**6) == []


def test_what_the_optimizer_needs_counts_whatever_the_pack(setting: Setting) -> None:
    costs = measured()
    steps = {"sft": costs.steps["sft"], "training": replace(costs.steps["training"], whole=9 * 10**5)}
    found = misfits(setting.loop.config, setting.work(), replace(costs, steps=steps), 10**6)
    assert found == [Misfit("training.tokens_per_pack", 900_000, {})]


@dataclass(frozen=True)
class OtherBench:
    """Where steps with gradient checkpointing take 10 bytes a token, and those of an adapter less at rest."""

    loop: Loop
    budget: Budget = field(default_factory=lambda: Budget(1.0, lambda: 0.0))

    def steps(self, section: str, settings: Any, policy: Any, memory: int, seconds: float) -> StepCosts:
        base = 100.0 if policy.lora is not None else 900.0
        slope = 1.0 if settings.gradient_checkpointing else 10.0
        return StepCosts(Costs(Line(0, 1), Line(base, slope), 1), 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("memory", "settings"),
    [
        (1350, {"training.gradient_checkpointing": True, "training.tokens_per_pack": 180}),
        (1125, {"policy.lora": {}, "training.tokens_per_pack": 80}),
        (225, {"policy.lora": {}, "training.gradient_checkpointing": True, "training.tokens_per_pack": 80}),
        (120, {}),
    ],
)
def test_other_ways_to_train_are_tried_in_order(setting: Setting, memory: int, settings: dict[str, Any]) -> None:
    misfit = Misfit("training.tokens_per_pack", 10**6)
    bench: Any = OtherBench(setting.loop)
    (found,) = with_remedies(bench, [misfit], setting.work(), memory)
    assert found.settings == settings
    over: Any = OtherBench(setting.loop, Budget(0.0, lambda: 0.0))
    assert with_remedies(over, [misfit], setting.work(), memory) == [misfit]


def test_weights_that_are_too_large_are_told_before_they_are_loaded(setting: Setting) -> None:
    config = setting.loop.config
    (full,) = static_misfits(config, setting.base.source, 0)
    assert full.settings == {}
    weights = full.needed_bytes // 16  # float32 weights, gradients, and two numbers of Adam's
    assert static_misfits(config, setting.base.source, full.needed_bytes) == []
    (misfit,) = static_misfits(config, setting.base.source, full.needed_bytes - 1)
    assert misfit.settings == {"policy.lora": {}}
    (misfit,) = static_misfits(config, setting.base.source, 4 * weights - 1)
    assert misfit.settings == {"policy.lora": {}, "policy.dtype": "bfloat16", "scoring.dtype": "bfloat16"}
    small = replace(config, policy=replace(config.policy, lora=LoraConfig()))
    assert static_misfits(small, setting.base.source, 4 * weights) == []


# --- the whole plan


def test_seconds_are_positive_and_add_up(planned: RunPlan) -> None:
    worked = [stage for stage in planned.stages if stage.tokens]
    assert len(worked) == 19
    for stage in worked:
        assert stage.seconds is not None
        assert stage.at_most is not None
        assert stage.peak_bytes is not None
        assert 0 < stage.seconds <= stage.at_most
        assert 0 < stage.peak_bytes <= (planned.peak_bytes or 0)
    assert planned.seconds == pytest.approx(sum(stage.seconds or 0 for stage in planned.stages))
    assert planned.at_most == pytest.approx(sum(stage.at_most or 0 for stage in planned.stages))
    assert planned.fits
    assert planned.memory > (planned.peak_bytes or 0)


def test_disk_counts_policies_and_checkpoints(planned: RunPlan, done: Done) -> None:
    disk = planned.disk
    assert disk is not None
    file = (done.result.policy / "model.safetensors").stat().st_size
    assert disk.policy == pytest.approx(file, rel=0.05)
    # Adam keeps two numbers a weight, and one a tensor.
    assert disk.checkpoint == pytest.approx(3 * disk.policy, rel=0.01)
    # Five policies and the result, and the two checkpoints of a training of four steps, one each two.
    assert disk.needed > 6 * disk.policy + 2 * disk.checkpoint
    # What the run left, with the checkpoints of its last training beside it: tables and report are small.
    left = sum(path.stat().st_size for path in done.result.run.root.rglob("*") if path.is_file())
    assert disk.needed < 1.1 * (left + 2 * disk.checkpoint)
    assert disk.needed > 0.9 * (left - file + 2 * disk.checkpoint)


def test_disk_of_caches_by_hand(setting: Setting) -> None:
    """5 rows of 200 bytes; 6 x 3 responses of 9 tokens of 20 bytes and 400 more each, in 2 requests of 8192."""
    sampling = Sampling("bootstrap", np.array([4, 2]), np.array([5, 7]), 3, Lengths(6, 9))
    work = [StageWork("a", 1, "pairs", cached=5), StageWork("b", 18, "responses", sampling=sampling)]
    config = setting.loop.config
    assert stored_bytes(config, work) == 1000 + 18 * (180 + 400) + 16384
    elsewhere = replace(config, scoring=replace(config.scoring, cache="elsewhere.sqlite"))
    assert stored_bytes(elsewhere, work) == 18 * (180 + 400) + 16384


def test_caches_take_no_more_than_is_planned(done: Done, setting: Setting) -> None:
    """Rows that are sampled are not known before: two responses that are the same are one row."""
    run, work = done.result.run, setting.work()
    rows, problems = check_cache(run.root / LOGPS)
    planned = sum(stage.cached for stage in work)
    assert problems == []
    assert 0.7 * planned < rows <= planned
    left = sum(path.stat().st_size for path in (run.root / LOGPS).parent.rglob("*.sqlite"))
    assert 0.25 * stored_bytes(setting.loop.config, work) < left < stored_bytes(setting.loop.config, work)


def test_a_plan_without_memory_times_nothing_and_says_why(tmp_path: Path) -> None:
    plan = plan_run(small_config(tmp_path / "run"), memory=1000)
    assert not plan.fits
    assert plan.seconds is None
    assert [misfit.what for misfit in plan.misfits] == ["policy.model"]
    assert [stage.count for stage in plan.stages if stage.name == "round-1/train"] == [4]


def test_work_that_is_done_is_not_counted_again(done: Done) -> None:
    root = done.result.run.root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    plan = plan_run(small_config(root))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert all(stage.done for stage in plan.stages)
    assert plan.seconds == 0


def test_an_estimate_without_measurements_keeps_the_counts(setting: Setting) -> None:
    work = setting.work(Lengths(10, 20))
    stages = estimate_stages(work, setting.work(), None)
    assert [(stage.name, stage.count) for stage in stages] == [(stage.name, stage.count) for stage in work]
    assert {stage.seconds for stage in stages} == {None}

"""Objectives that read more than the pairs of a pack: a state of all steps before, or all pairs of the step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from training_helpers import metrics, policy_model, random_pairs, run_training, training_data

from seralign.config import TrainingConfig, load_config
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, ObjectiveSum, Term, one
from seralign.rewards.cached_logprobs import ScoringPolicy
from seralign.rewards.responses import Responses
from seralign.rewards.token_logprobs import token_logps
from seralign.training.checkpoints import CheckpointMarker
from seralign.training.edits import edited_tokens
from seralign.training.forms import check_labels
from seralign.training.moving import Moves
from seralign.training.train import TrainingData

SETTINGS: dict[str, Any] = {
    "max_steps": 6, "batch_size": 5, "tokens_per_pack": 60, "optimizer": "sgd", "learning_rate": 0.05, "warmup": 0.0,
    "log_steps": 1, "eval_steps": 3, "save_steps": 2,
}  # fmt: skip


class Killed(BaseException):
    """Not an Exception: nothing may catch it and tidy up."""


def run(model: Path, folder: Path, objective: ObjectiveSum, **changed: Any) -> dict[str, torch.Tensor]:
    config = TrainingConfig(**(SETTINGS | changed))
    data = training_data(model, random_pairs(13), objective, config, heldout=random_pairs(5, seed=1))
    run_training(policy_model(model), folder, data, objective, config)
    (file,) = (folder / "policy").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("name", ["bco", "aot", "aot_unpaired"])
def test_packs_change_nothing(tiny_model: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    objective = one(name, OBJECTIVES[name](0.1))
    packed = run(tiny_model("llama"), tmp_path / "packed", objective, tokens_per_pack=5000, save_steps=100)
    split = run(tiny_model("llama"), tmp_path / "split", objective, tokens_per_pack=30, save_steps=100)
    for weight, other in packed.items():
        torch.testing.assert_close(other, split[weight], rtol=1e-4, atol=1e-6)
    lines, others = metrics(tmp_path / "packed"), metrics(tmp_path / "split")
    assert len(lines) == len(others)
    for line, other in zip(lines, others, strict=True):
        assert line == pytest.approx(other, rel=1e-3, abs=1e-5)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]


def test_a_view_of_the_step_keeps_gradients_in_mixed_precision(tiny_model: Callable[[str], Path], tmp_path: Path):
    """Weights that the view has cast without gradient are cast again for the passes that need one."""
    objective = one("aot", OBJECTIVES["aot"](0.1))
    run(tiny_model("llama"), tmp_path / "float32", objective, save_steps=100)
    run(tiny_model("llama"), tmp_path / "bfloat16", objective, save_steps=100, precision="bfloat16")
    norms, others = (
        [line["grad_norm"] for line in metrics(tmp_path / name) if "grad_norm" in line]
        for name in ("float32", "bfloat16")
    )
    assert others == pytest.approx(norms, rel=0.1)


def test_killed_and_resumed_with_its_state(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The same bytes as a training that was never killed; the checkpoint has the mean reward of the steps before."""
    model = tiny_model("llama")
    objective = ObjectiveSum((Term("aot", OBJECTIVES["aot"](0.1)), Term("bco", OBJECTIVES["bco"](0.1), 0.5)))
    whole = run(model, tmp_path / "whole", objective)
    original = CheckpointMarker.on_step_end

    def die(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            raise Killed
        original(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointMarker, "on_step_end", die)
        with pytest.raises(Killed):
            run(model, tmp_path / "killed", objective)
    newest = tmp_path / "killed" / "scratch" / "checkpoint-4"
    of_aot, (count, mean) = json.loads((newest / "objective_state.json").read_text())
    assert of_aot == []
    assert count == 2 * 5 * 4
    assert mean != 0.0
    resumed = run(model, tmp_path / "killed", objective)
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def with_tokens(model: Path, data: TrainingData) -> TrainingData:
    """The reference's tokens, in the trainer's packs as in a run."""
    policy = ScoringPolicy("reference", "digest", lambda: policy_model(model))
    first = data.plan.packs[: data.plan.accumulation * -(-len(data.examples) // 5)]
    found = []
    for table, packs in ((data.examples, first), (data.heldout, data.heldout_packs)):
        assert table is not None
        assert packs is not None
        responses = Responses(table)
        found.append(token_logps(responses, [responses.numbering.of_rows(pack.rows) for pack in packs], policy))
    (sums, tokens), (heldout, heldout_tokens) = found
    assert data.reference is not None
    assert np.array_equal(sums, data.reference)  # to the last bit
    return replace(
        data, reference=sums, reference_tokens=tokens, heldout_reference=heldout,
        heldout_reference_tokens=heldout_tokens,
    )  # fmt: skip


@pytest.mark.parametrize("moves", [False, True])
def test_tokens_reach_the_loss(tiny_model: Callable[[str], Path], tmp_path: Path, moves: bool) -> None:
    """At step 0 all margins are zero; with every token whole, training is that of dpo; else it is another."""
    model = tiny_model("llama")
    config = TrainingConfig(**(SETTINGS | {"save_steps": 100}))
    lines = {}
    for name, objective in (
        ("dpo", OBJECTIVES["dpo"](0.1)),
        ("whole", OBJECTIVES["ld_dpo"](0.1, 1.0)),
        ("part", OBJECTIVES["ld_dpo"](0.1, 0.2)),
        ("alike", OBJECTIVES["bmc"](0.1, 0.0)),
    ):
        own = one(name, objective)
        data = training_data(model, random_pairs(13), own, config, heldout=random_pairs(5, seed=1))
        if name != "dpo":
            data = with_tokens(model, data)
        if moves:
            data = replace(data, reference=None, heldout_reference=None, reference_tokens=None,
                           heldout_reference_tokens=None, moves=Moves(3, 0.5))  # fmt: skip
        run_training(policy_model(model), tmp_path / name, data, own, config)
        lines[name] = metrics(tmp_path / name)
        assert lines[name][0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-7)
    for same in ("whole", "alike"):
        for line, other in zip(lines["dpo"], lines[same], strict=True):
            assert line == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert lines["part"][-1]["eval_loss"] != pytest.approx(lines["whole"][-1]["eval_loss"], rel=1e-3)


def test_edits_reach_the_loss(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The held-out loss of ``bmc`` after training, from plain forward passes and a diff of each pair."""
    model, objective = tiny_model("llama"), one("bmc", OBJECTIVES["bmc"](0.1, 30.0))
    config = TrainingConfig(**(SETTINGS | {"save_steps": 100}))
    held = random_pairs(5, seed=1)
    data = with_tokens(model, training_data(model, random_pairs(13), objective, config, heldout=held))
    trained = policy_model(model)
    run_training(trained, tmp_path / "run", data, objective, config)
    losses = []
    for row in tiny.as_pairs(held):
        sides = row["chosen_ids"], row["rejected_ids"]
        h = 0.0
        for sign, response, marks in zip((1, -1), sides, edited_tokens(*sides), strict=True):
            logps = []
            for plain in (trained.eval(), policy_model(model).eval()):
                ids = torch.tensor([[*row["prompt_ids"], *response]])
                with torch.no_grad():
                    logits = plain(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1].double()
                logps.append(torch.log_softmax(logits, dim=1).gather(1, torch.tensor(response)[:, None])[:, 0].numpy())
            h += sign * float(((1 + marks * np.minimum(np.exp(-logps[0]), 30.0)) * (logps[0] - logps[1])).sum())
        p = row["p"]
        losses.append(math.log1p(math.exp(-0.1 * (2 * p - 1) * h)))
    assert metrics(tmp_path / "run")[-1]["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert abs(np.mean(losses) - math.log(2)) > 1e-3


def test_collisions_reach_the_loss(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """At step 0 the loss is ln 2 times the mean of the weights, whose collisions a plain forward pass has."""
    model, objective = tiny_model("llama"), one("wpo", OBJECTIVES["wpo"](0.1))
    run(model, tmp_path / "run", objective, save_steps=100)
    plain = policy_model(model)
    weights = []
    for row in tiny.as_pairs(random_pairs(5, seed=1)):
        logs = 0.0
        for side in ("chosen_ids", "rejected_ids"):
            prompt, response = row["prompt_ids"], row[side]
            with torch.no_grad():
                logits = plain(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].double()
            logps = torch.log_softmax(logits, dim=1)
            own = logps.gather(1, torch.tensor(response)[:, None])[:, 0] - logps.exp().square().sum(dim=1).log()
            logs += float(own.mean())
        weights.append(math.exp(logs))
    assert metrics(tmp_path / "run")[0]["eval_loss"] == pytest.approx(math.log(2) * np.mean(weights), rel=1e-4)


def test_soft_labels_are_refused_where_a_loss_has_no_form_for_them() -> None:
    objective = ObjectiveSum((Term("dpo", OBJECTIVES["dpo"](0.1)), Term("aot", OBJECTIVES["aot"](0.1))))
    check_labels(random_pairs(5), objective, "data.pairs")
    check_labels(random_pairs(5, soft=True), one("dpo", OBJECTIVES["dpo"](0.1)), "data.pairs")
    with pytest.raises(ConfigError) as caught:
        check_labels(random_pairs(5, soft=True), objective, "data.heldout")
    assert str(caught.value).startswith(
        "objective.name: aot has no form for soft labels, and data.heldout has 5: p of example example-0 is 0."
    )
    values = {"out": "x", "world": {}, "objective.name": "aot_unpaired", "crossfit": {}}
    with pytest.raises(ConfigError, match=r"^crossfit: it makes labels soft, and aot_unpaired has no form for those"):
        load_config(None, values)

"""A fresh LoRA adapter on a trained one: the trained one is merged into its model, and the run begins with both."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tiny
import torch
from forked import ends_by_itself
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import seralign.pipeline.base as loop_base
import seralign.pipeline.policies as policies
import seralign.policy.merging as policy_merging
from seralign import train
from seralign.cli.main import main
from seralign.config import RunConfig, load_config
from seralign.errors import ConfigError, DataError, ModelError, StoreError
from seralign.pipeline.plan import plan_run
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.load import load_model
from seralign.policy.quiet import quiet_transformers
from seralign.policy.saved import run_policy
from seralign.policy.saving import cast_saved
from seralign.report.contents import run_contents
from seralign.report.facts import facts
from seralign.report.figures import run_figures
from seralign.runs import Run, read_run
from seralign.runs.figures import ResultFigures

IDS = torch.tensor([[5, 9, 27, 20, 31, 4, 18]])


def config(folder: Path, **values: Any) -> RunConfig:
    """A run in ``folder/run`` on the model and the adapter beside it, with dotted overrides (``policy__dtype``)."""
    rows = [{"prompt": f"w{at} w2", "chosen": " w3 w4", "rejected": f" w5 w{at}"} for at in range(8)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"max_steps": 2, "batch_size": 2, "learning_rate": 1e-2, "precision": "float32", "warmup": 0.0}
    given: dict[str, Any] = {
        "out": str(folder / "run"),
        "policy": {
            "model": str(folder / "model"),
            "adapter": str(folder / "adapter"),
            "lora": {"r": 2, "alpha": 4},
        },
        "data": {"pairs": {"path": str(folder / "pairs.jsonl")}, "max_length": 32, "heldout_fraction": 0.25},
        "training": settings,
        "scoring.dtype": "float32",
        "rounds": 2,
        "bootstrap": None,
        "evaluation": {"prompts": 1, "max_new_tokens": 4, "token_pairs": 0},
        "stop.metric": "never",
    }
    return load_config(None, given | {key.replace("__", "."): value for key, value in values.items()})


def trained_adapter(folder: Path, **settings: Any) -> Path:
    """A model and an adapter on it that does something."""
    tiny.save_adapter(folder / "adapter", tiny.save_model(folder / "model", **settings))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Read only."""
    folder = trained_adapter(tmp_path_factory.mktemp("fresh"))
    before = weights_digest(PolicySource(str(folder / "model"), adapter=str(folder / "adapter")))
    train(config(folder))
    assert weights_digest(PolicySource(str(folder / "model"), adapter=str(folder / "adapter"))) == before
    return folder


@pytest.mark.parametrize(
    ("sections", "settings"),
    [
        (["policy"], {}),
        (["policy"], {"policy__lora": None}),
        (["reference"], {"policy__adapter": None, "reference": {"model": "{0}/model", "adapter": "{0}/adapter"}}),
    ],
    ids=["merged", "trained", "reference"],
)
def test_an_adapter_of_another_model_is_said_at_the_start_and_in_the_report(
    sections: list[str], settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_adapter(tmp_path)
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "someone/other"}))
    reference = {key: value.format(tmp_path) for key, value in settings.get("reference", {}).items()}
    run = train(config(tmp_path, rounds=1, **settings | ({"reference": reference} if reference else {}))).run
    said = " ".join(capsys.readouterr().err.split())
    noted = [note.partition(",")[0] for note in run_figures(run).notes if "someone/other" in note]
    assert noted == [f"{section}.adapter was trained on someone/other" for section in sections]
    assert [noted[0] in said, "policy.adapter was" in said] == [True, sections == ["policy"]]


def opened(model: Path, adapter: Path | None = None) -> Any:
    """As a user opens it, in float64."""
    with quiet_transformers():
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
        return (base if adapter is None else PeftModel.from_pretrained(base, str(adapter)).double()).eval()


@torch.no_grad()
def logits(model: Any) -> np.ndarray:
    return model(IDS).logits.numpy()


def test_the_merged_base_is_model_and_adapter(folder: Path) -> None:
    merged, both = (
        logits(opened(folder / "run" / "base" / "model")),
        logits(opened(folder / "model", folder / "adapter")),
    )
    np.testing.assert_allclose(merged, both, atol=2e-5)
    assert np.abs(both - logits(opened(folder / "model"))).max() > 1, "the adapter does something"
    figures = read_run(folder / "run").record("base").figures
    assert figures["digest"] == weights_digest(PolicySource(str(folder / "run" / "base" / "model")))
    assert (figures["dtype"], figures["hub"], figures["adapter"]) == ("float32", None, str(folder / "adapter"))
    assert figures["difference"] < 1e-4 < 0.1 < figures["change"]
    names = {entry.name for entry in (folder / "run" / "base" / "model").iterdir()}
    assert names == {entry.name for entry in (folder / "model").iterdir()}
    own, given = (AutoTokenizer.from_pretrained(at) for at in (folder / "run" / "base" / "model", folder / "model"))
    assert own.get_vocab() == given.get_vocab()


def test_the_fresh_adapter_starts_at_the_merged_model_which_is_the_reference(folder: Path) -> None:
    run = read_run(folder / "run")
    lines = [json.loads(line) for line in run.path("round-1/train", "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-12)
    assert lines[0]["eval_margins"] == 0.0
    policies = run.record("policies").figures
    assert policies["reference"]["digest"] == policies["initial"]["digest"] == run.record("base").figures["digest"]


def test_the_result_opens_with_peft_on_the_base_beside_it(folder: Path) -> None:
    result, run = folder / "run" / "result", read_run(folder / "run")
    settings = json.loads((result / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["r"]) == ("../base/model", 2)
    model, heldout = (
        opened(result / settings["base_model_name_or_path"], result),
        tiny.read_pairs(run.path("data", "heldout.arrow")),
    )
    found = [
        float(tiny.reference_logp(model, row["prompt_ids"], row["chosen_ids"]))  # pyright: ignore
        for row in heldout
    ]
    lines = run.path("round-2/train", "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["eval_logps/chosen"] == pytest.approx(np.mean(found), abs=1e-3)
    assert run.record("result").figures["policy"] == "round 2"


def test_a_run_that_was_moved_is_sampled_merged_and_verified_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely = tmp_path / "lonely"
    shutil.copytree(folder, lonely)
    moved = (lonely / "run").rename(tmp_path / "moved")
    shutil.rmtree(lonely)
    finished = train(config(folder, out=str(moved)))
    assert (finished.policy, finished.figures) == (
        moved / "result",
        read_run(folder / "run").figures("result", ResultFigures),
    )
    expected = logits(opened(moved / "base" / "model", moved / "result"))
    assert main(["merge", str(moved), "--out", str(tmp_path / "whole")]) == 0
    np.testing.assert_allclose(logits(opened(tmp_path / "whole")), expected, atol=2e-5)
    assert main(["merge", str(moved), "--start", "--out", str(tmp_path / "start")]) == 0
    np.testing.assert_array_equal(logits(opened(tmp_path / "start")), logits(opened(moved / "base" / "model")))
    capsys.readouterr()
    answers = []
    for place in (moved, moved / "result", tmp_path / "whole"):
        assert main(["sample", str(place), "--prompt", "w3 w2", "--max_new_tokens", "4"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2]
    assert main(["verify", str(moved)]) == 0
    assert main(["report", str(moved)]) == 0
    assert run_policy(read_run(moved)).source.model == str(moved / "base" / "model")


def test_what_the_run_began_with_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (folder / "run" / "result" / "README.md").read_text()
    assert "made with seralign from `model` with the adapter `adapter` merged into it." in card
    assert "base_model" not in card
    assert str(folder) not in card
    assert main(["show", str(folder / "run")]) == 0
    whole = f"{folder / 'model'} with the adapter {folder / 'adapter'} merged into it"
    shown = " ".join(capsys.readouterr().out.split())  # a long path wraps the line
    assert f"base: {whole}, in float32; " in shown
    told = dict(facts(run_contents(read_run(folder / "run"))))
    assert told["Policy"] == [f"{whole}, and a fresh LoRA adapter"]
    assert told["Base"][0].startswith(f"{whole}, in float32")
    assert main(["push", str(folder / "run"), "--repo", "me/it", "--dry-run"]) == 2
    error = capsys.readouterr().err
    for word in ("which the run made by merging policy.adapter into policy.model", "--merged", "--base_model"):
        assert word in error


def _attempt(settings: RunConfig, harm: Callable[[], None]) -> bool:
    """Whether a run ended by itself, once ``harm`` was done to what it works with."""

    def attempt() -> None:
        harm()
        train(settings)

    return ends_by_itself(attempt)


def _dies(module: Any, name: str) -> Callable[[], None]:
    """Let the process be killed when it has called a function."""

    def harm() -> None:
        whole = getattr(module, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            whole(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, name, dying)

    return harm


def test_a_run_killed_around_the_merge_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = config(trained_adapter(tmp_path), rounds=1)
    assert _attempt(settings, lambda: None)
    whole = {record.name: record.outputs for record in read_run(tmp_path / "run").stages()}
    (tmp_path / "run").rename(tmp_path / "whole")
    assert not _attempt(settings, _dies(policy_merging, "_save"))
    torn = tmp_path / "run" / "base.partial" / "model" / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    (torn.parent / "leftover.json").write_text("half")
    assert not _attempt(settings, _dies(loop_base, "write_merged"))
    assert not _attempt(settings, _dies(loop_base.MergeAdapter, "work"))
    assert not _attempt(settings, _dies(policies.Policies, "inputs"))
    assert not _attempt(settings, _dies(policies.Policies, "work"))
    assert _attempt(settings, lambda: None)
    assert {record.name: record.outputs for record in read_run(tmp_path / "run").stages()} == whole


def _nudge(file: Path) -> None:
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})


def test_what_changed_since_is_noticed(tmp_path: Path) -> None:
    settings = config(trained_adapter(tmp_path), rounds=1)
    train(settings)
    other = "made from other inputs: policy.model or policy.adapter changed since"
    for changed, told in {
        "adapter/adapter_model.safetensors": other,
        "model/model.safetensors": other,
        "run/base/model/model.safetensors": "base/model/model.safetensors: its contents have changed",
    }.items():
        before = (tmp_path / changed).read_bytes()
        _nudge(tmp_path / changed)
        with pytest.raises(StoreError, match=told):
            train(settings)
        (tmp_path / changed).write_bytes(before)
    train(settings)


def test_the_merged_base_has_the_data_type_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model in bfloat16 that is trained in float32 keeps all that the adapter does."""
    trained_adapter(tmp_path)
    cast_saved(tmp_path / "model", "bfloat16")
    train(config(tmp_path, rounds=1))
    base = tmp_path / "run" / "base" / "model"
    assert {tensor.dtype for tensor in load_file(base / "model.safetensors").values()} == {torch.float32}
    np.testing.assert_allclose(
        logits(opened(base)), logits(opened(tmp_path / "model", tmp_path / "adapter")), atol=2e-5
    )
    assert "warning: rounding" not in capsys.readouterr().err
    train(config(tmp_path, rounds=1, out=str(tmp_path / "half"), policy__dtype="bfloat16"))
    half = tmp_path / "half" / "base" / "model" / "model.safetensors"
    assert {tensor.dtype for tensor in load_file(half).values()} == {torch.bfloat16}
    assert json.loads((half.parent / "config.json").read_text())["dtype"] == "bfloat16"


def test_rounding_that_takes_the_adapter_back_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_adapter(tmp_path)
    cast_saved(tmp_path / "model", "bfloat16")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: 1e-2 * tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    train(config(tmp_path, rounds=1, policy__dtype="bfloat16"))
    assert "warning: rounding to policy.dtype, bfloat16, removes half or more" in capsys.readouterr().err


def test_an_adapter_with_tokens_of_its_own_keeps_them(tmp_path: Path) -> None:
    """The embedding that the adapter brings is the merged model's, and the data may have the new tokens."""
    tiny.save_model(tmp_path / "model")
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["w97", "w98"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with quiet_transformers():
        model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
        model.resize_token_embeddings(50, mean_resizing=False)
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, settings)
        model.save_pretrained(tmp_path / "adapter")
    settings = config(tmp_path, rounds=1, policy__tokenizer=str(tmp_path / "tokenizer"))
    rows = [{"prompt": f"w{at} w97", "chosen": " w3 w98", "rejected": f" w5 w{at}"} for at in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "base" in [stage.name for stage in plan_run(settings).stages]
    train(settings)
    merged = opened(tmp_path / "run" / "base" / "model")
    assert merged.get_input_embeddings().weight.shape[0] == merged.config.vocab_size == 50
    assert len(AutoTokenizer.from_pretrained(tmp_path / "run" / "base" / "model")) == 50


def test_loading_both_at_once_is_the_merged_model_with_a_fresh_adapter(folder: Path) -> None:
    source, policy = PolicySource(str(folder / "model"), adapter=str(folder / "adapter")), config(folder).policy
    model = load_model(source, policy, "float32", lora=policy.lora)
    np.testing.assert_allclose(logits(model), logits(opened(folder / "model", folder / "adapter")), atol=1e-4)
    assert {name.split(".lora_")[1][:1] for name, weight in model.named_parameters() if "lora_" in name} == {"A", "B"}
    assert all(weight.shape[0] == 2 for name, weight in model.named_parameters() if "lora_A" in name)


def test_a_mistake_in_the_data_or_the_trainings_comes_before_the_merge(tmp_path: Path) -> None:
    trained_adapter(tmp_path)
    settings = config(tmp_path)
    (tmp_path / "pairs.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(DataError):
        train(settings)
    with pytest.raises(ConfigError, match=r"training\.learning_rate"):
        train(config(tmp_path, training__learning_rate=0.0))
    assert not list(tmp_path.glob("run/base*"))


def _quantized(folder: Path) -> None:
    file = folder / "model" / "config.json"
    content = json.loads(file.read_text()) | {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}
    }
    file.write_text(json.dumps(content))


def _prompt_tuning(folder: Path) -> None:
    file = folder / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "PROMPT_TUNING"}))


def _of_another_model(folder: Path) -> None:
    shutil.rmtree(folder / "adapter")
    tiny.save_adapter(folder / "adapter", tiny.save_model(folder / "other", hidden_size=64))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_quantized, r"model: an adapter cannot be merged into quantized weights \(bitsandbytes\)"),
        (_prompt_tuning, r"^policy\.adapter: .*adds virtual tokens"),
        (_of_another_model, "does not fit the model"),
        (lambda folder: shutil.rmtree(folder / "adapter"), "adapter"),
    ],
)
def test_what_cannot_be_merged_is_one_clear_error(harm: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    harm(trained_adapter(tmp_path))
    for attempt in (train, plan_run):
        with pytest.raises(ModelError, match=told):
            attempt(config(tmp_path))
    assert not (tmp_path / "run" / "base").exists()


def test_an_adapter_that_peft_cannot_merge_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("no merging here")

    monkeypatch.setattr(PeftModel, "merge_and_unload", refuses, raising=False)
    trained_adapter(tmp_path)
    for attempt in (train, plan_run):
        with pytest.raises(ModelError, match="adapter: this adapter cannot be merged: no merging here"):
            attempt(config(tmp_path))


def test_a_plan_counts_the_merge(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    with_merge, alone = plan_run(config(tmp_path)), plan_run(config(tmp_path, policy__adapter=None))
    assert [stage.name for stage in with_merge.stages][:3] == ["data", "base", "initial/evaluate"]
    assert [stage.name for stage in with_merge.stages if stage.name != "base"] == [stage.name for stage in alone.stages]
    base = with_merge.stages[1]
    weights = sum(tensor.numel() for tensor in load_file(tmp_path / "model" / "model.safetensors").values())
    # Float32 weights, and the pages of the files that they are read from, on top of what the process has.
    assert base.peak_bytes is not None
    assert base.peak_bytes > 8 * weights + psutil.Process().memory_info().rss / 2
    assert base.seconds is not None
    assert base.seconds > 0
    assert with_merge.disk is not None
    assert alone.disk is not None
    # The same trainings, and the merged weights on top; the data of both take the same.
    assert with_merge.disk.needed - alone.disk.needed == pytest.approx(4 * weights, abs=2000)
    done = plan_run(config(folder)).stages[1]
    assert (done.name, done.done, done.seconds) == ("base", True, Run(folder / "run").record("base").seconds)


def test_a_merge_that_needs_more_than_there_is_does_not_fit(folder: Path) -> None:
    weights = sum(tensor.numel() for tensor in load_file(folder / "model" / "model.safetensors").values())
    settings = config(folder, out=str(folder / "other"), policy__dtype="bfloat16", scoring__dtype="bfloat16")
    assert plan_run(settings, memory=3 * weights).misfits[0].needed_bytes == 4 * weights

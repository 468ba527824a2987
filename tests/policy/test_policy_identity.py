"""The digest names what a policy computes, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from seralign.errors import ModelError
from seralign.policy import identity
from seralign.policy.identity import PolicySource, fetch, finite_digest, hub_name, portable, weights_digest
from seralign.policy.quiet import quiet_transformers

Saved = Callable[[str], PolicySource]


def copy_of(source: PolicySource, folder: Path) -> PolicySource:
    shutil.copytree(source.model, folder)
    return PolicySource(str(folder))


def resave(source: PolicySource, folder: Path, dtype: torch.dtype = torch.float32, shard: str = "5GB") -> PolicySource:
    with quiet_transformers():
        AutoModelForCausalLM.from_pretrained(source.model, dtype=dtype).save_pretrained(folder, max_shard_size=shard)
    return PolicySource(str(folder))


def change_settings(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_digest_is_the_same_wherever_and_however_the_same_weights_lie(name: str, saved: Saved, tmp_path: Path) -> None:
    digest = weights_digest(saved(name))
    assert weights_digest(copy_of(saved(name), tmp_path / "copy")) == digest
    assert weights_digest(resave(saved(name), tmp_path / "again")) == digest
    sharded = resave(saved(name), tmp_path / "shards", shard="10KB")
    assert len(list(Path(sharded.model).glob("*.safetensors"))) > 1
    assert weights_digest(sharded) == digest


def test_digest_follows_the_files_that_are_loaded(saved: Saved, tmp_path: Path) -> None:
    """Weights in another format of the model's makers may lie beside those that transformers loads."""
    source = copy_of(saved("llama"), tmp_path / "model")
    save_file({"other": torch.ones(3)}, tmp_path / "model" / "consolidated.safetensors")
    assert weights_digest(source) == weights_digest(saved("llama"))


def test_digest_ignores_what_changes_no_output(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("gpt2"), tmp_path / "model")
    change_settings(tmp_path / "model" / "config.json", transformers_version="9.9", use_cache=False, resid_pdrop=0.5)
    (tmp_path / "model" / "README.md").write_text("read me")
    assert weights_digest(source) == weights_digest(saved("gpt2"))


def test_any_single_bit_of_the_weights_changes_the_digest(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    places = [start, len(whole) - 1, *np.random.default_rng(0).integers(start, len(whole), 20).tolist()]
    digests = {weights_digest(source)}
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        digests.add(weights_digest(source))
    assert len(digests) == 1 + len(set(places))


def test_names_and_shapes_count_as_well_as_bytes(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    digests = {weights_digest(source)}
    keys = ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight")
    swapped = tensors | {keys[0]: tensors[keys[1]], keys[1]: tensors[keys[0]]}
    reshaped = tensors | {keys[0]: tensors[keys[0]].reshape(-1, 2)}
    for other in (swapped, reshaped):
        save_file(other, file)
        digests.add(weights_digest(source))
    assert len(digests) == 3


def test_precision_and_rope_theta_change_the_digest(saved: Saved, tmp_path: Path) -> None:
    other = copy_of(saved("llama"), tmp_path / "rope")
    file = tmp_path / "rope" / "config.json"
    rope = json.loads(file.read_text())["rope_parameters"]
    change_settings(file, rope_parameters=rope | {"rope_theta": 5000.0})
    rounded = resave(saved("llama"), tmp_path / "bf16", dtype=torch.bfloat16)
    assert len({weights_digest(source) for source in (saved("llama"), other, rounded)}) == 3


def test_an_adapter_has_its_own_digest_on_each_base(saved: Saved, tmp_path: Path) -> None:
    first = tiny.save_adapter(tmp_path / "first", saved("llama"), seed=1)
    second = tiny.save_adapter(tmp_path / "second", saved("llama"), seed=2)
    other_base = replace(first, model=tiny.save_model(tmp_path / "base", seed=5).model)
    stronger = PolicySource(first.model, adapter=str(shutil.copytree(tmp_path / "first", tmp_path / "stronger")))
    change_settings(tmp_path / "stronger" / "adapter_config.json", lora_alpha=99)
    assert len({weights_digest(s) for s in (saved("llama"), first, second, other_base, stronger)}) == 5


def test_an_adapter_keeps_its_digest_when_peft_lists_its_modules_in_another_order(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", saved("llama"))
    digest = weights_digest(source)
    file = tmp_path / "adapter" / "adapter_config.json"
    modules = json.loads(file.read_text())["target_modules"]
    assert len(modules) > 1
    change_settings(file, target_modules=modules[::-1], lora_dropout=0.0)
    assert weights_digest(source) == digest


@pytest.mark.parametrize("harm", ["cut", "header", "empty"])
def test_corrupt_weights_are_one_clear_error(harm: str, saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[:-100], "header": whole[:20] + b"#" * 20 + whole[40:], "empty": b""}[harm])
    with pytest.raises(ModelError, match=r"model\.safetensors: corrupt") as caught:
        weights_digest(source)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_and_a_broken_index_are_named(saved: Saved, tmp_path: Path) -> None:
    source = resave(saved("llama"), tmp_path / "model", shard="10KB")
    shard = sorted((tmp_path / "model").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name):
        weights_digest(source)
    (tmp_path / "model" / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelError, match=r"index\.json: not a JSON object"):
        weights_digest(source)


def test_weights_in_another_format_are_refused(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no weights in safetensors"):
        weights_digest(source)


def test_a_broken_configuration_is_named(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        weights_digest(source)


def test_fetch_gives_absolute_folders(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_of(saved("llama"), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert fetch(PolicySource("model")) == PolicySource(str(tmp_path / "model"))


@pytest.mark.parametrize("name", ["someone/some-model-0.5B", "Qwen/Qwen2.5-0.5B", "gpt2.1"])
def test_a_hub_name_that_cannot_be_reached_is_named(name: str) -> None:
    says = f"there is no folder {name} here, and the hub cannot be reached: "
    for key, named in (("policy", "policy.model: "), ("reference", "reference.model: "), ("", "")):
        with pytest.raises(ModelError, match=f"^{re.escape(named)}{says}") as caught:
            fetch(PolicySource(name), key)
        assert "\n" not in str(caught.value)


def test_an_adapter_that_cannot_be_reached_is_named_by_its_key(saved: Saved) -> None:
    with pytest.raises(ModelError, match=r"^policy\.adapter: there is no folder someone/adapter here, and the hub"):
        fetch(replace(saved("llama"), adapter="someone/adapter"))


@pytest.mark.parametrize("name", ["./missing", "/missing/model", "runs/first/policy"])
def test_a_folder_that_is_missing_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(ModelError, match=f"^policy\\.model: {name}: no such folder"):
        fetch(PolicySource(name))


def test_a_folder_of_something_else_is_refused(tmp_path: Path, saved: Saved) -> None:
    with pytest.raises(ModelError, match=r"no config\.json here"):
        fetch(PolicySource(str(tmp_path)))
    with pytest.raises(ModelError, match=r"no adapter_config\.json here"):
        fetch(replace(saved("llama"), adapter=str(tmp_path)))


def test_names_of_the_hub_are_told_from_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "here").mkdir(parents=True)
    names = ["Qwen/Qwen2.5-0.5B-Instruct", "gpt2", "models/absent"]
    assert [hub_name(name) for name in names] == names
    for path in ("models/here", "./models", "/models/qwen", "~/qwen", "a/b/c", None, ""):
        assert hub_name(path) is None, path
    assert [portable(path) for path in ("Qwen/Qwen2.5", "models/here", "/srv/models/qwen/", "a/b/c.jsonl")] == [
        "Qwen/Qwen2.5", "here", "qwen", "c.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(broken: float, saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "broken")
    assert finite_digest(source) == weights_digest(source)
    file = tmp_path / "broken" / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][3] = broken
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"^{file}: model\.norm\.weight has weights that are NaN or infinite"):
        finite_digest(source)


def test_the_digest_and_the_check_read_each_weight_once(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", saved("llama"))
    read: Counter[str] = Counter()

    class Counted:
        def __init__(self, file: Path, tensors: Any) -> None:
            self.file, self.tensors = file, tensors

        def __enter__(self) -> Counted:
            self.tensors.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.tensors.__exit__(*error)

        def keys(self) -> list[str]:
            return list(self.tensors.keys())

        def get_tensor(self, name: str) -> torch.Tensor:
            read[f"{self.file.name}: {name}"] += 1
            return self.tensors.get_tensor(name)

    monkeypatch.setattr(identity, "open_tensors", lambda file: Counted(file, safe_open(file, framework="pt")))
    finite_digest(source)
    names = [f"{Path(file).name}: {name}" for file in (f"{source.model}/model.safetensors",
             f"{source.adapter}/adapter_model.safetensors") for name in load_file(file)]  # fmt: skip
    assert read == dict.fromkeys(names, 1)


@pytest.mark.parametrize("key", ["policy", "reference"])
def test_a_local_folder_has_no_revisions(key: str, saved: Saved) -> None:
    source = saved("llama")
    with pytest.raises(
        ModelError, match=rf"^{key}\.revision: {source.model} is a local folder without revisions; remove it"
    ):
        fetch(replace(source, revision="main"), key)

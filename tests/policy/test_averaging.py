"""The average of two saved policies: weights by hand, and what cannot be averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from seralign.errors import ModelError
from seralign.policy.averaging import write_average

WEIGHTS = "model.safetensors"


def test_the_average_is_between_both_and_opens_as_a_model(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "old", seed=1)
    tiny.save_model(tmp_path / "new", seed=2)
    for _ in range(2):  # what a killed attempt left is replaced
        write_average(tmp_path / "old", tmp_path / "new", tmp_path / "mean", 0.75)
    old, new, mean = (load_file(tmp_path / name / WEIGHTS) for name in ("old", "new", "mean"))
    for name, weight in mean.items():
        torch.testing.assert_close(weight, 0.75 * old[name] + 0.25 * new[name])
    AutoModelForCausalLM.from_pretrained(tmp_path / "mean")
    files = {name: sorted(file.name for file in (tmp_path / name).iterdir()) for name in ("new", "mean")}
    assert files["mean"] == files["new"]


def test_adapters_are_averaged(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    for name, seed in (("old", 1), ("new", 2)):
        tiny.save_adapter(tmp_path / name, base, seed)
    write_average(tmp_path / "old", tmp_path / "new", tmp_path / "mean", 0.5)
    old, new, mean = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("old", "new", "mean"))
    assert mean.keys() == new.keys()
    assert any((weight != new[name]).any() for name, weight in mean.items())
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (old[name] + new[name]) / 2)


def test_weights_keep_their_data_type(tmp_path: Path) -> None:
    for name, value in (("old", 1.0), ("new", 2.0)):
        tiny.save_model(tmp_path / name)
        save_file({"a": torch.full((2,), value, dtype=torch.bfloat16)}, tmp_path / name / WEIGHTS, {"format": "pt"})
    write_average(tmp_path / "old", tmp_path / "new", tmp_path / "mean", 0.5)
    found = load_file(tmp_path / "mean" / WEIGHTS)["a"]
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ({"a": 2}, {"a": 3}, "they differ in the weight a"),
        ({"a": 2}, {"a": 2, "b": 1}, "they differ in the weight b"),
        ({"a": 2, "b": 1}, {"a": 2}, "only the latter has the weight b"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, old: dict[str, int], new: dict[str, int], says: str) -> None:
    for name, sizes in (("old", old), ("new", new)):
        tiny.save_model(tmp_path / name)
        save_file({weight: torch.zeros(size) for weight, size in sizes.items()}, tmp_path / name / WEIGHTS)
    with pytest.raises(ModelError, match=says):
        write_average(tmp_path / "old", tmp_path / "new", tmp_path / "mean", 0.5)

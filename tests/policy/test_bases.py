"""An adapter on a model that it was not trained on is found by its settings and by the weights that are here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny

from seralign.policy.bases import other_base
from seralign.policy.identity import PolicySource


@pytest.fixture
def source(tmp_path: Path) -> PolicySource:
    """A model and an adapter that names none."""
    return tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "model"))


def naming(source: PolicySource, base: str | None) -> PolicySource:
    file = Path(str(source.adapter)) / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
    return source


@pytest.mark.parametrize(
    "base",
    [None, "", "someone/Llama-1B", "/elsewhere/llama-1b", "llama-1b", "/c/models--meta--llama-1b/snapshots/0123abcd"],
)
def test_no_name_or_the_same_last_part_is_the_same(source: PolicySource, base: str | None) -> None:
    assert other_base(naming(source, base), "meta/llama-1b") is None


@pytest.mark.parametrize("base", ["someone/Llama-1B-Instruct", "/gone/model", "/c/models--meta--llama/snapshots/01"])
def test_another_name_is_another_model(source: PolicySource, base: str) -> None:
    assert other_base(naming(source, base), "meta/llama-1b") == base


def test_folders_that_are_here_are_compared_by_weights(source: PolicySource, tmp_path: Path) -> None:
    shutil.copytree(source.model, tmp_path / "copy" / "other name")
    tiny.save_model(tmp_path / "apart" / "model", seed=1)
    for base in (source.model, str(tmp_path / "copy" / "other name"), "../model"):
        assert other_base(naming(source, base), "any") is None
    for base in (str(tmp_path / "apart" / "model"), "../apart/model"):
        assert other_base(naming(source, base), "model") == base
    (tmp_path / "apart" / "model" / "model.safetensors").unlink()
    assert other_base(source, "model") == "../apart/model"


def test_a_model_without_an_adapter_has_no_other_base(source: PolicySource) -> None:
    assert other_base(PolicySource(source.model), "any") is None

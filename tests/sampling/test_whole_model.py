"""A policy of base and adapter as one folder, for engines that open no adapter."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.config import PolicyConfig
from seralign.errors import ModelError
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model
from seralign.sampling import SampledPolicy, whole_model


def sampled(source: PolicySource, dtype: str) -> SampledPolicy:
    load = partial(load_model, source, PolicyConfig(), dtype)
    ends = frozenset({tiny.EOS})
    return SampledPolicy("round 1", source, dtype, "default", tiny.make_tokenizer(), ends, load, PolicyConfig())


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_base_and_adapter_are_merged_as_long_as_the_engine_needs_them(
    tmp_path: Path, dtype: str, tolerance: float
) -> None:
    """The folder opens in transformers alone, with the policy's logits, and is gone with the context."""
    source = tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"))
    ids = torch.tensor([[1, 5, 9, 4]])
    with torch.no_grad():
        own = load_model(source, PolicyConfig(), "float32").eval()(ids).logits
        base = AutoModelForCausalLM.from_pretrained(source.model)(ids).logits
        with whole_model(sampled(source, dtype)) as folder:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
            assert model.dtype == getattr(torch, dtype)
            found = model.float()(ids).logits
            assert len(AutoTokenizer.from_pretrained(folder)) == len(tiny.make_tokenizer())
    assert not folder.exists()
    assert float((own - base).abs().max()) > 0.5, "the adapter does something"
    assert float((own - found).abs().max()) < tolerance * float(own.abs().max())


def test_a_whole_model_is_its_own_folder(tmp_path: Path) -> None:
    source = tiny.save_model(tmp_path / "base")
    with whole_model(sampled(source, "bfloat16")) as folder:
        assert folder == tmp_path / "base"
    assert folder.is_dir()


def test_an_adapter_that_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    source = replace(tiny.save_model(tmp_path / "base"), adapter=str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="nothing"), whole_model(sampled(source, "float32")):
        pass

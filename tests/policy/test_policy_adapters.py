"""Adapters of every kind on bases of every size: those that fit load whole, the others are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import IA3Config, PeftConfig, PromptTuningConfig, get_peft_model
from peft import LoraConfig as PeftLora
from transformers import PreTrainedModel

from seralign.config import PolicyConfig
from seralign.errors import ModelError
from seralign.policy.adapters import vocabulary_rows
from seralign.policy.admission import check_model
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model, load_tokenizer
from seralign.policy.quiet import quiet_transformers

Saved = Callable[[str], PolicySource]
CONFIG = PolicyConfig(model="any")


def save_peft(folder: Path, model: PreTrainedModel, options: PeftConfig) -> None:
    with quiet_transformers():
        get_peft_model(model, options).save_pretrained(str(folder))


def test_virtual_tokens_are_refused_before_weights_are_read(saved: Saved, tmp_path: Path) -> None:
    options = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    save_peft(tmp_path / "adapter", tiny.make_model(), options)
    with pytest.raises(ModelError, match=r"^policy\.adapter: .* adds virtual tokens \(prompt tuning\)"):
        check_model(PolicySource(saved("llama").model, adapter=str(tmp_path / "adapter")), CONFIG)


def save_resized(folder: Path, name: str, rows: int, **options: Any) -> Path:
    """An adapter of a model whose embedding got ``rows`` rows first."""
    model = tiny.make_model(name)
    model.resize_token_embeddings(rows, mean_resizing=False)
    settings: dict[str, Any] = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | options
    save_peft(folder, model, PeftLora(**settings))
    return folder


@pytest.mark.parametrize("rows", [50, 40])
@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    ],
)
def test_a_base_is_resized_to_the_embedding_that_its_adapter_brings(
    options: dict[str, Any], rows: int, saved: Saved, tmp_path: Path
) -> None:
    source = PolicySource(saved("llama").model, adapter=str(save_resized(tmp_path / "a", "llama", rows, **options)))
    check_model(source, CONFIG)
    assert vocabulary_rows(source, CONFIG) == rows
    found: Any = load_model(source, CONFIG, "float32", trainable=True)
    again: Any = load_model(source, CONFIG, "float32")
    assert found.config.vocab_size == rows
    ids = torch.tensor([[3, rows - 1, 4]])
    with torch.no_grad():
        logits = found(input_ids=ids).logits
        assert logits.shape == (1, 3, rows)
        assert torch.equal(logits, again(input_ids=ids).logits)


def test_a_resized_adapter_that_lacks_its_new_rows_is_refused(saved: Saved, tmp_path: Path) -> None:
    adapter = save_resized(tmp_path / "adapter", "llama", 50, modules_to_save=["lm_head"])
    with pytest.raises(ModelError, match=r"50 rows and the model's 48, and the new rows of model\.embed"):
        load_model(PolicySource(saved("llama").model, adapter=str(adapter)), CONFIG, "float32")


def test_the_tokenizer_that_an_adapter_was_saved_with_is_its_own(saved: Saved, tmp_path: Path) -> None:
    """As PEFT's AutoPeftModel takes it; a folder without one leaves the model's."""
    base = saved("llama")
    adapter = save_resized(tmp_path / "a", "llama", 50, modules_to_save=["embed_tokens", "lm_head"])
    source = PolicySource(base.model, adapter=str(adapter))
    assert len(load_tokenizer(source, CONFIG)) == 48
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})  # pyright: ignore
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(adapter)
    found = load_tokenizer(source, CONFIG)
    assert len(found) == vocabulary_rows(source, CONFIG) == 50
    assert found("w0 <think> w1")["input_ids"] == [3, 48, 4]
    assert found.chat_template == tokenizer.chat_template
    given = load_tokenizer(source, replace(CONFIG, tokenizer=base.model, chat_template="{{ messages }}"))
    assert len(given) == 48
    assert given.chat_template == "{{ messages }}"
    assert len(load_tokenizer(base, CONFIG)) == 48


def test_the_tokenizer_of_an_adapter_on_the_hub_is_asked_for(saved: Saved) -> None:
    """Without a network there is none, and that is no error here: the adapter itself is fetched elsewhere."""
    assert len(load_tokenizer(PolicySource(saved("llama").model, adapter="someone/adapter"), CONFIG)) == 48


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"hidden_size": 64}, r"q_proj\.lora_A\.default\.weight is 2x64 there and 2x32 in the model"),
        ({"num_hidden_layers": 3}, r"the model has no place for .*layers\.2\..* \(2 weights are left over\)"),
        ({"num_hidden_layers": 1}, r"it has no .*layers\.1\..* \(2 weights are missing\)"),
    ],
)
def test_an_adapter_of_a_model_of_another_size_is_refused_in_a_line(
    settings: dict[str, Any], why: str, saved: Saved, tmp_path: Path
) -> None:
    options = PeftLora(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    save_peft(tmp_path / "adapter", tiny.make_model("llama", **settings), options)
    with pytest.raises(ModelError, match=why) as caught:
        load_model(PolicySource(saved("llama").model, adapter=str(tmp_path / "adapter")), CONFIG, "float32")
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3"])
def test_adapters_of_other_kinds_load(name: str, saved: Saved, tmp_path: Path) -> None:
    options: Any = IA3Config(task_type="CAUSAL_LM")
    if name != "ia3":
        options = PeftLora(r=2, target_modules="all-linear", use_dora=name == "dora", task_type="CAUSAL_LM")
    save_peft(tmp_path / "adapter", tiny.make_model(), options)
    source = PolicySource(saved("llama").model, adapter=str(tmp_path / "adapter"))
    check_model(source, CONFIG)
    model = load_model(source, CONFIG, "float32", trainable=True)
    assert any(parameter.requires_grad for parameter in model.parameters())

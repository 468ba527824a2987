"""Loading: what is refused, what is switched off, what the user does not see."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError
from seralign.policy import release
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.policy.logprobs import response_logps
from seralign.policy.packing import pad_sequences
from seralign.policy.quiet import quiet_transformers

Saved = Callable[[str], PolicySource]
CONFIG = PolicyConfig(model="any")
BATCH = pad_sequences(tiny.make_sequences(6))


def copy_of(source: PolicySource, folder: Path) -> PolicySource:
    shutil.copytree(source.model, folder)
    return PolicySource(str(folder))


def forward(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return response_logps(model, **BATCH)


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, "falcon"])
def test_no_dropout_in_training_mode(name: str, saved: Saved) -> None:
    model = load_model(saved(name), CONFIG, "float32")
    wanted = forward(model)
    model.train()
    assert torch.equal(forward(model), wanted)
    assert torch.equal(forward(model), wanted)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon"])
def test_the_tiny_models_do_have_dropout_otherwise(name: str, saved: Saved) -> None:
    """Without which the test above could not fail."""
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(saved(name).model, dtype=torch.float32).train()
    assert not torch.equal(forward(model), forward(model))


def test_no_dropout_in_a_trained_adapter(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path, saved("llama"))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_dropout"] == tiny.DROPOUT
    model = load_model(source, CONFIG, "float32", trainable=True).train()
    assert torch.equal(forward(model), forward(model))
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does(saved: Saved, tmp_path: Path) -> None:
    base = forward(load_model(saved("llama"), CONFIG, "float32"))
    fresh = load_model(saved("llama"), CONFIG, "float32", trainable=True, lora=LoraConfig(r=4, alpha=8))
    assert torch.equal(forward(fresh), base)
    trainable = [name for name, parameter in fresh.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    trained = load_model(tiny.save_adapter(tmp_path, saved("llama")), CONFIG, "float32")
    assert (forward(trained) - base).abs().min() > 0.01


@pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_weights_have_the_asked_precision(name: str, dtype: torch.dtype, saved: Saved) -> None:
    model = load_model(saved("llama"), CONFIG, name)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_a_model_in_pickle_is_refused(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    torch.save(load_file(file), tmp_path / "model" / "pytorch_model.bin")
    file.unlink()
    with pytest.raises(ModelError, match="cannot load a causal language model from"):
        load_model(source, CONFIG, "float32")


def test_an_adapter_in_pickle_is_refused(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path, saved("llama"))
    file = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(file), tmp_path / "adapter_model.bin")
    file.unlink()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors here"):
        load_model(source, CONFIG, "float32")


def test_corrupt_weights_are_one_clear_error(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])
    with pytest.raises(ModelError, match="cannot load a causal language model from") as caught:
        load_model(source, CONFIG, "float32")
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_model_is_refused(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path, saved("gpt2"))
    with pytest.raises(ModelError, match="does not fit the model"):
        load_model(replace(source, model=saved("llama").model), CONFIG, "float32")


def test_lora_on_modules_that_do_not_exist_names_the_key(saved: Saved) -> None:
    with pytest.raises(ModelError, match=r"^policy\.lora\.target_modules: "):
        load_model(saved("llama"), CONFIG, "float32", lora=LoraConfig(target_modules=["no_such_proj"]))


def test_saving_a_loaded_model_keeps_its_digest(saved: Saved, tmp_path: Path) -> None:
    """Switching dropout off does not make another policy of it."""
    model = load_model(saved("gpt2"), CONFIG, "float32")
    with quiet_transformers():
        model.save_pretrained(tmp_path)  # pyright: ignore[reportCallIssue]
    assert weights_digest(PolicySource(str(tmp_path))) == weights_digest(saved("gpt2"))


def test_nothing_is_printed(saved: Saved, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tiny.save_adapter(tmp_path, saved("llama"))
    capfd.readouterr()
    load_model(source, CONFIG, "float32")
    load_model(saved("llama"), CONFIG, "float32", lora=LoraConfig())
    load_tokenizer(source, CONFIG)
    weights_digest(source)
    assert tuple(capfd.readouterr()) == ("", "")


def test_chat_template_from_a_file_and_inline(saved: Saved, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    file = tmp_path / "template.jinja"
    file.write_text(template)
    assert load_tokenizer(saved("llama"), CONFIG).chat_template is None
    for given in (template, str(file)):
        assert load_tokenizer(saved("llama"), replace(CONFIG, chat_template=given)).chat_template == template
    with pytest.raises(ModelError, match=r"^policy\.chat_template: .*missing\.jinja is neither"):
        load_tokenizer(saved("llama"), replace(CONFIG, chat_template=str(tmp_path / "missing.jinja")))


def test_a_tokenizer_that_is_not_there_names_the_key(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"^policy\.tokenizer: {tmp_path} has no tokenizer; give the folder"):
        load_tokenizer(saved("llama"), replace(CONFIG, tokenizer=str(tmp_path)))


@pytest.mark.parametrize(
    ("published", "wanted"), [(None, {0}), ({"eos_token_id": 7}, {0, 7}), ({"eos_token_id": [7, 9]}, {0, 7, 9})]
)
def test_end_tokens_are_the_tokenizers_and_the_models(
    published: dict[str, object] | None, wanted: set[int], saved: Saved, tmp_path: Path
) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    file.unlink() if published is None else file.write_text(json.dumps(published))
    assert end_tokens(source, tiny.make_tokenizer()) == wanted


def test_a_model_without_end_token_is_refused(saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text("{}")
    tokenizer = tiny.make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="end-of-sequence"):
        end_tokens(source, tokenizer)


def test_a_model_that_is_no_longer_used_is_gone_before_the_next_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models hold themselves by cycles: with Python's own search for them off, both would be in memory."""
    source = tiny.save_model(tmp_path / "model")
    monkeypatch.setattr(release, "_WORTH", 0)
    gc.disable()
    try:
        first = load_model(source, PolicyConfig(), "float32")
        first.itself = [first]  # pyright: ignore
        gone = weakref.ref(first)
        del first
        assert gone() is not None
        load_model(source, PolicyConfig(), "float32")
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"eos_token_id": "x"}', "eos_token_id must be a token id or a list of token ids, got 'x'"),
        ('{"eos_token_id": [0, 1.5]}', "eos_token_id must be a token id or a list of token ids, got 1.5"),
        ('{"eos_token_id": ', "cannot be read: "),
    ],
)
def test_broken_generation_settings_are_named(content: str, says: str, saved: Saved, tmp_path: Path) -> None:
    source = copy_of(saved("llama"), tmp_path / "broken")
    file = tmp_path / "broken" / "generation_config.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=f"^{file}: {says}"):
        end_tokens(source, tiny.make_tokenizer())

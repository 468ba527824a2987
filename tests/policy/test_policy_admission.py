"""What is no causal language model is refused by its settings, before a byte of weights is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import (
    BartConfig,
    BertConfig,
    CLIPConfig,
    ElectraConfig,
    LlavaConfig,
    PretrainedConfig,
    Qwen2VLConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
    WhisperConfig,
)

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError
from seralign.policy.admission import check_model
from seralign.policy.identity import PolicySource, fetch
from seralign.policy.load import load_tokenizer

Saved = Callable[[str], PolicySource]
CONFIG = PolicyConfig(model="any")


def settings_alone(folder: Path, config: PretrainedConfig, architecture: str) -> PolicySource:
    config.architectures = [architecture]
    config.save_pretrained(folder)
    return PolicySource(str(folder))


def changed(source: PolicySource, folder: Path, **settings: Any) -> PolicySource:
    """A copy with other settings; None takes one away."""
    shutil.copytree(source.model, folder)
    file = folder / "config.json"
    content = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return PolicySource(str(folder))


@pytest.mark.parametrize(
    ("config", "architecture", "what"),
    [
        (T5Config(), "T5ForConditionalGeneration", "T5 is an encoder-decoder"),
        (BartConfig(), "BartForConditionalGeneration", "Bart is an encoder-decoder"),
        (WhisperConfig(), "WhisperForConditionalGeneration", "Whisper is an encoder-decoder"),
        (BertConfig(), "BertForSequenceClassification", "BertForSequenceClassification is a classifier"),
        (BertConfig(), "BertForTokenClassification", "BertForTokenClassification is a classifier of tokens"),
        (
            BertConfig(),
            "BertForMaskedLM",
            "BertForMaskedLM is a masked language model, which attends to later tokens",
        ),
        (
            RobertaConfig(),
            "RobertaForMaskedLM",
            "RobertaForMaskedLM is a masked language model, which attends to later tokens",
        ),
        (
            ElectraConfig(),
            "ElectraForPreTraining",
            "ElectraForPreTraining is an encoder in pre-training, which attends to later tokens",
        ),
        (ViTConfig(), "ViTForImageClassification", "ViTForImageClassification is a vision model"),
        (ViTConfig(), "ViTModel", "ViTModel is a vision model"),
        (CLIPConfig(), "CLIPModel", "CLIPModel is a vision-language model"),
        (
            Qwen2VLConfig(),
            "Qwen2VLForConditionalGeneration",
            "Qwen2VLForConditionalGeneration is a vision-language model",
        ),
        (
            LlavaConfig(),
            "LlavaForConditionalGeneration",
            "LlavaForConditionalGeneration is a vision-language model",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_the_model_is_is_said_in_one_line(
    config: PretrainedConfig, architecture: str, what: str, tmp_path: Path
) -> None:
    source = settings_alone(tmp_path / "model", config, architecture)
    with pytest.raises(ModelError) as caught:
        check_model(source, CONFIG)
    assert str(caught.value) == f"policy.model: {what}; a causal language model is needed"
    with pytest.raises(ModelError, match=r"^reference\.model: "):
        check_model(source, CONFIG, "reference")


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_causal_language_models_pass(name: str, saved: Saved) -> None:
    check_model(saved(name), CONFIG)


def test_a_reward_model_of_a_causal_family_is_a_classifier(saved: Saved, tmp_path: Path) -> None:
    source = changed(saved("llama"), tmp_path / "model", architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ModelError, match="LlamaForSequenceClassification is a classifier"):
        check_model(source, CONFIG)


@pytest.mark.parametrize(
    ("auto_map", "model_type"),
    [
        ({"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"}, "mine"),
        ({"AutoConfig": "mine.MineConfig"}, "mine"),
        ({"AutoModelForCausalLM": "mine.Mine"}, "clip"),
    ],
)
def test_code_that_comes_with_a_model_is_named_by_its_key(
    auto_map: dict[str, str], model_type: str, saved: Saved, tmp_path: Path
) -> None:
    source = changed(saved("llama"), tmp_path / "model", auto_map=auto_map, model_type=model_type)
    with pytest.raises(ModelError) as caught:
        check_model(source, CONFIG)
    wanted = "policy.trust_remote_code: the model brings its own code; set it to true to run it"
    assert str(caught.value) == wanted


def test_code_beside_a_model_that_transformers_has_is_not_needed(saved: Saved, tmp_path: Path) -> None:
    """As Phi-3 has it: transformers' own class is taken, and the code is not run."""
    auto_map = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"}
    check_model(changed(saved("llama"), tmp_path / "model", auto_map=auto_map), CONFIG)


def test_code_that_comes_with_a_tokenizer_is_named_by_its_key(saved: Saved, tmp_path: Path) -> None:
    source = changed(saved("llama"), tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["mine.MineTokenizer", None]}, "tokenizer_class": "MineTokenizer"}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    with pytest.raises(ModelError, match=r"^policy\.trust_remote_code: the tokenizer brings its own code"):
        load_tokenizer(source, CONFIG)


@pytest.mark.parametrize("model_type", ["never-heard-of-it", None])
def test_a_model_type_that_transformers_lacks_is_one_line(model_type: str | None, saved: Saved, tmp_path: Path) -> None:
    source = changed(saved("llama"), tmp_path / "model", model_type=model_type)
    with pytest.raises(ModelError, match="transformers does not know this model") as caught:
        check_model(source, CONFIG)
    assert len(str(caught.value)) < 300


def test_quantized_weights_need_an_adapter(saved: Saved, tmp_path: Path) -> None:
    settings = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    source = changed(saved("llama"), tmp_path / "model", **settings)
    with pytest.raises(ModelError, match=r"^policy\.model: its weights are quantized \(gptq\)"):
        check_model(source, CONFIG)
    check_model(source, PolicyConfig(model="any", lora=LoraConfig()))


def test_a_pad_id_beyond_the_embedding_is_named(saved: Saved, tmp_path: Path) -> None:
    source = changed(saved("llama"), tmp_path / "model", pad_token_id=len(tiny.VOCABULARY))
    with pytest.raises(ModelError, match=r"config\.json's pad_token_id 48 is beyond the embedding of 48 rows"):
        check_model(source, CONFIG)
    check_model(changed(saved("llama"), tmp_path / "fine", pad_token_id=-1), CONFIG)


def test_an_adapter_given_as_a_model_says_where_it_belongs(saved: Saved, tmp_path: Path) -> None:
    base = saved("llama")
    adapter = tiny.save_adapter(tmp_path / "adapter", base).adapter
    wanted = f"this is an adapter on {base.model}: give {base.model} as {{0}}.model and this folder as {{0}}.adapter"
    for refuse in (fetch, lambda source, key="policy": check_model(source, CONFIG, key)):
        for key in ("policy", "reference"):
            with pytest.raises(ModelError) as caught:
                refuse(PolicySource(str(adapter)), key)
            assert str(caught.value) == f"{adapter}: {wanted.format(key)}"


def test_a_model_given_as_an_adapter_is_said(saved: Saved) -> None:
    with pytest.raises(ModelError, match=r"this is a whole model, not an adapter: give it as policy\.model"):
        fetch(PolicySource(saved("llama").model, adapter=saved("gpt2").model))


def test_weights_in_gguf_are_said(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="a model in GGUF, which is not read"):
        fetch(PolicySource(str(tmp_path)))
    with pytest.raises(ModelError, match="a file; give the folder"):
        fetch(PolicySource(str(tmp_path / "model-q4.gguf")))


def test_a_model_without_a_tokenizer_says_so(saved: Saved, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(saved("llama").model) / name, tmp_path)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(PolicySource(str(tmp_path)), CONFIG)
    assert str(caught.value) == f"policy.tokenizer: {tmp_path} has no tokenizer; give its folder as policy.tokenizer"

"""Anything but a causal language model is rejected by its settings, before any weights are read."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import (
    BartConfig,
    BertConfig,
    BltConfig,
    CLIPConfig,
    ElectraConfig,
    FuyuConfig,
    Gemma3Config,
    Gemma3TextConfig,
    Llama4Config,
    LlavaConfig,
    MllamaConfig,
    MoshiConfig,
    PretrainedConfig,
    Qwen2VLConfig,
    Qwen3_5Config,
    RobertaConfig,
    T5Config,
    ViTConfig,
    WhisperConfig,
    XLMConfig,
    XLNetConfig,
)

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError
from seralign.policy.admission import check_model
from seralign.policy.identity import PolicySource, fetch
from seralign.policy.load import load_model, load_tokenizer
from seralign.policy.saved import saved_policy
from seralign.policy.settings import positions

Saved = Callable[[str], PolicySource]
CONFIG = PolicyConfig(model="any")
TEXT_PART = (
    "a vision-language model; only its text part can be trained: load it with AutoModelForCausalLM, save it and give "
    "that"
)


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
        (BertConfig(), "BertForTokenClassification", "BertForTokenClassification is a token classifier"),
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
        (
            Gemma3Config(),
            "Gemma3ForConditionalGeneration",
            "Gemma3ForConditionalGeneration is a vision-language model",
        ),
        (Gemma3Config(), "Gemma3ForCausalLM", "Gemma3ForCausalLM is a vision-language model"),
        (
            MllamaConfig(),
            "MllamaForConditionalGeneration",
            "MllamaForConditionalGeneration is a vision-language model",
        ),
        (Llama4Config(), "Llama4ForConditionalGeneration", f"Llama4ForConditionalGeneration is {TEXT_PART}"),
        (Qwen3_5Config(), "Qwen3_5ForConditionalGeneration", f"Qwen3_5ForConditionalGeneration is {TEXT_PART}"),
        (FuyuConfig(), "FuyuForCausalLM", "FuyuForCausalLM is a vision-language model"),
        (
            XLNetConfig(),
            "XLNetLMHeadModel",
            "XLNetLMHeadModel is a permutation language model, which does not predict the next token",
        ),
        (
            XLMConfig(),
            "XLMWithLMHeadModel",
            "XLMWithLMHeadModel attends to later tokens: causal is false in its config.json",
        ),
        (
            BertConfig(),
            "BertLMHeadModel",
            "BertLMHeadModel attends to later tokens: is_decoder is not true in its config.json",
        ),
        (
            Gemma3TextConfig(use_bidirectional_attention=True),
            "Gemma3ForCausalLM",
            "Gemma3ForCausalLM attends to later tokens: use_bidirectional_attention is set in its config.json",
        ),
        (MoshiConfig(), "MoshiForConditionalGeneration", "MoshiForConditionalGeneration is an audio-language model"),
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


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (Gemma3Config().text_config, "Gemma3ForCausalLM"),
        (BertConfig(is_decoder=True), "BertLMHeadModel"),
        (XLMConfig(causal=True), "XLMWithLMHeadModel"),
        (Llama4Config().text_config, "Llama4ForCausalLM"),
        (Qwen3_5Config().text_config, "Qwen3_5ForCausalLM"),
        (Qwen3_5Config(), "Qwen3_5ForCausalLM"),  # settings of the whole, files that say they hold the text part
        (BltConfig(), "BltForCausalLM"),  # of bytes, in patches
    ],
)
def test_what_looks_back_only_and_reads_text_passes(
    config: PretrainedConfig, architecture: str, tmp_path: Path
) -> None:
    check_model(settings_alone(tmp_path / "model", config, architecture), CONFIG)


def test_a_text_model_of_a_vision_language_family_opens(tmp_path: Path) -> None:
    source = tiny.save_model(tmp_path / "model", "gemma3")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == ["Gemma3ForCausalLM"]
    check_model(source, CONFIG)
    assert type(load_model(source, CONFIG, "float32")).__name__ == "Gemma3ForCausalLM"


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "nosuch", "rope_theta": 1e4}},
        {"rope_parameters": None, "rope_scaling": {"type": "nosuch", "factor": 2.0}},
    ],
)
def test_an_unknown_rotary_embedding_is_named_with_those_there_are(
    settings: dict[str, Any], saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = changed(saved("llama"), tmp_path / "model", **settings)
    says = rf"^policy\.model: {tmp_path}/model: rope_type 'nosuch' in config.json is unknown to transformers "
    with pytest.raises(ModelError, match=says + r"[\d.]+, which has default, dynamic, linear, llama3, "):
        check_model(source, CONFIG)
    assert capsys.readouterr().err == ""


def test_models_without_a_largest_position_have_room_for_any() -> None:
    assert positions(XLNetConfig()) == sys.maxsize
    assert positions(BertConfig(max_position_embeddings=77)) == 77


@pytest.mark.parametrize(
    ("attention", "says"),
    [("nosuch", 'Specified `attn_implementation="nosuch"` is not supported'), ("flash_attention_2", "FlashAttention2")],
)
def test_an_attention_that_cannot_be_had_is_named_by_its_key(attention: str, says: str, saved: Saved) -> None:
    with pytest.raises(ModelError) as caught:
        check_model(saved("llama"), PolicyConfig(model="any", attention=attention))
    assert str(caught.value).startswith(f"policy.attention: {attention} does not work with this model here: {says}")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_attention_that_is_here_is_taken(attention: str, saved: Saved) -> None:
    check_model(saved("llama"), PolicyConfig(model="any", attention=attention))


def test_a_hub_name_that_cannot_be_read_is_named_by_its_key() -> None:
    with pytest.raises(ModelError, match=r"^policy\.model: there is no folder someone/model here, and the hub"):
        check_model(PolicySource("someone/model"), CONFIG)


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"])
def test_an_adapter_of_another_task_is_refused(task: str, saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", saved("llama"))
    file = tmp_path / "adapter" / "adapter_config.json"
    for given in ("CAUSAL_LM", None):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"task_type": given}))
        check_model(source, CONFIG)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"task_type": task}))
    says = f"{source.adapter} was trained for another task ({task} in adapter_config.json); give an adapter for a"
    for key, named in (("policy", "policy.adapter: "), ("reference", "reference.adapter: ")):
        with pytest.raises(ModelError) as caught:
            check_model(source, CONFIG, key)
        assert str(caught.value).startswith(named + says)
    with pytest.raises(ModelError) as caught:
        saved_policy(str(source.adapter))
    assert str(caught.value).startswith(says)


def test_a_masked_language_model_cannot_be_asked_either(tmp_path: Path) -> None:
    folder = settings_alone(tmp_path / "model", BertConfig(), "BertForMaskedLM").model
    with pytest.raises(ModelError) as caught:
        saved_policy(folder)
    assert str(caught.value).startswith(f"{folder}: BertForMaskedLM is a masked language model")


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
    wanted = "policy.trust_remote_code: the model has its own code; set trust_remote_code to true to run it"
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
    with pytest.raises(ModelError, match=r"^policy\.trust_remote_code: the tokenizer has its own code"):
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
    with pytest.raises(ModelError, match=r"^policy\.model: quantized weights \(gptq\) cannot be trained"):
        check_model(source, CONFIG)
    check_model(source, PolicyConfig(model="any", lora=LoraConfig()))


def test_a_pad_id_beyond_the_embedding_is_named(saved: Saved, tmp_path: Path) -> None:
    source = changed(saved("llama"), tmp_path / "model", pad_token_id=len(tiny.VOCABULARY))
    with pytest.raises(ModelError, match=r"pad_token_id 48 in config\.json is outside the vocabulary of 48 tokens"):
        check_model(source, CONFIG)
    check_model(changed(saved("llama"), tmp_path / "fine", pad_token_id=-1), CONFIG)


def test_an_adapter_given_as_a_model_says_where_it_belongs(saved: Saved, tmp_path: Path) -> None:
    base = saved("llama")
    adapter = tiny.save_adapter(tmp_path / "adapter", base).adapter
    wanted = f"is an adapter for {base.model}; give {base.model} as {{0}}.model and this folder as {{0}}.adapter"
    for refuse in (fetch, lambda source, key="policy": check_model(source, CONFIG, key)):
        for key in ("policy", "reference"):
            with pytest.raises(ModelError) as caught:
                refuse(PolicySource(str(adapter)), key)
            assert str(caught.value) == f"{adapter} {wanted.format(key)}"


def test_a_model_given_as_an_adapter_is_said(saved: Saved) -> None:
    with pytest.raises(ModelError, match=r"is a whole model, not an adapter; give it as policy\.model"):
        fetch(PolicySource(saved("llama").model, adapter=saved("gpt2").model))


def test_weights_in_gguf_are_said(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="GGUF models are not supported"):
        fetch(PolicySource(str(tmp_path)))
    with pytest.raises(ModelError, match="a file; give the folder"):
        fetch(PolicySource(str(tmp_path / "model-q4.gguf")))


def test_a_model_without_a_tokenizer_says_so(saved: Saved, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(saved("llama").model) / name, tmp_path)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(PolicySource(str(tmp_path)), CONFIG)
    assert str(caught.value) == f"policy.tokenizer: {tmp_path} has no tokenizer; give its folder as policy.tokenizer"


def test_every_module_of_an_adapter_has_to_be_there(saved: Saved) -> None:
    """The model is made without weights, before anything is computed."""
    source = saved("llama")
    check_model(source, PolicyConfig(lora=LoraConfig(target_modules=["q_proj", "layers.1.mlp.up_proj"])))
    says = r"^policy\.lora\.target_modules: the model has no module 'nope'; it has q_proj, k_proj"
    with pytest.raises(ModelError, match=says):
        check_model(source, PolicyConfig(lora=LoraConfig(target_modules=["q_proj", "nope"])))


def test_an_adapter_with_whole_modules_is_not_trained_in_float16(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", saved("llama"))
    half = PolicyConfig(model="any", adapter="any", dtype="float16")
    check_model(source, half)
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(ModelError, match=r"^policy\.dtype: float16 .* the adapter .* whole modules \(lm_head\)"):
        check_model(source, half)
    check_model(source, half, "reference")
    check_model(source, PolicyConfig(model="any", adapter="any", dtype="float16", lora=LoraConfig()))
    check_model(source, PolicyConfig(model="any", adapter="any"))


def test_the_folder_of_a_run_is_no_model_but_its_result_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(ModelError, match=r"is the folder of a run, not of a model; finish it, then give its result$"):
        check_model(PolicySource(str(run)), PolicyConfig(str(run)))
    (run / "result").mkdir()
    says = f"{run} is the folder of a run, not of a model; give its result, {run / 'result'}"
    with pytest.raises(ModelError, match=f"{re.escape(says)}$"):
        check_model(PolicySource(str(run)), PolicyConfig(str(run)))

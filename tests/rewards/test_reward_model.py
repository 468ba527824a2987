"""Reward models from folders: their rewards are those of transformers, and what cannot score is one clear error."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from reward_models import save_reward_model
from safetensors.torch import load_file, save_file
from text_model import CHAT_TEMPLATE, save_text_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from seralign.errors import DataError, ModelError
from seralign.evaluation.scorer import load_scorer
from seralign.policy.abilities import abilities
from seralign.policy.heads import REWARD
from seralign.policy.load import load_model
from seralign.policy.quiet import quiet_transformers
from seralign.rewards.cached_logprobs import ScoringPolicy, logps
from seralign.rewards.responses import Responses
from seralign.rewards.reward_model import RewardModel, ensemble_rewards, open_reward_model
from seralign.runs.cache import LogpCache

PROMPT = ({"role": "user", "content": "Name a fruit."},)
ANSWERS = ["apple", "A stone!", "", "apple and pear"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward_model(tmp_path_factory.mktemp("reward") / "model", CHAT_TEMPLATE)


def by_transformers(folder: Path, texts: list[str]) -> list[float]:
    """The score of each text, alone and without padding."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    found = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found.append(float(model.eval()(input_ids=ids).logits[0, 0]))
    return found


def test_conversations_are_scored_at_the_end_token_of_the_template(folder: Path) -> None:
    texts = [f"<|user|>Name a fruit.</s><|assistant|>{answer}</s>" for answer in ANSWERS]
    found = open_reward_model(str(folder), "key").score([PROMPT] * 4, ANSWERS)
    np.testing.assert_allclose(found, by_transformers(folder, texts), rtol=1e-4, atol=1e-5)
    assert np.ptp(found) > 0.1


def test_a_scorer_reads_the_files_that_are_there_now(tmp_path: Path) -> None:
    """It is kept in memory, but not when another model was trained in its folder."""
    save_reward_model(tmp_path / "model", CHAT_TEMPLATE)
    first = load_scorer(f"reward_model:{tmp_path / 'model'}", "scorer")
    assert load_scorer(f"reward_model:{tmp_path / 'model'}", "scorer").function is first.function
    before = first.function(["Hi"] * 4, ANSWERS).tolist()
    shutil.rmtree(tmp_path / "model")
    save_reward_model(tmp_path / "model", CHAT_TEMPLATE, seed=1)
    second = load_scorer(f"reward_model:{tmp_path / 'model'}", "scorer")
    assert second.digest != first.digest
    assert second.function(["Hi"] * 4, ANSWERS).tolist() != before


def test_texts_are_scored_as_they_are(folder: Path) -> None:
    found = open_reward_model(str(folder), "key").score(["<s>x: ", "<s>x: "], ["yes", "no"])
    np.testing.assert_allclose(found, by_transformers(folder, ["<s>x: yes</s>", "<s>x: no</s>"]), rtol=1e-4, atol=1e-5)


def test_long_texts_are_scored_whole_or_refused(folder: Path) -> None:
    """The model has 1024 positions, and a token is a character. Nothing is cut without a word."""
    model, long = open_reward_model(str(folder), "key"), "apple " * 160
    found = model.score([f"<s>stone{long}"], ["yes"])
    np.testing.assert_allclose(found, by_transformers(folder, [f"<s>stone{long}yes</s>"]), rtol=1e-4, atol=1e-5)
    says = r"^key: response 1 cannot be scored: {} too long \(the model takes at most 1024 tokens\)"
    with pytest.raises(DataError, match=says.format("response")):
        model.score(["<s>x", f"<s>{long}"], ["yes", "a" * 80])
    with pytest.raises(DataError, match=says.format("prompt")):
        model.score(["<s>x", f"<s>{long}{long}"], ["yes", "no"])


def test_identity_is_that_of_weights_and_tokenizer(folder: Path, tmp_path: Path) -> None:
    own = open_reward_model(str(folder), "key").identity
    again = save_reward_model(tmp_path / "again", CHAT_TEMPLATE)
    assert open_reward_model(str(again), "other").identity == own
    assert open_reward_model(str(save_reward_model(tmp_path / "seed", CHAT_TEMPLATE, seed=1)), "key").identity != own
    assert open_reward_model(str(save_reward_model(tmp_path / "plain")), "key").identity != own


def test_rewards_come_from_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tiny.examples_table([([5, 6], [[7, 0], [8, 0]]), ([5, 9], [[7, 0], [9, 0]])])
    cache = LogpCache(tmp_path / "cache.sqlite")
    wanted = open_reward_model(str(folder), "key").rewards(Responses(table), cache)
    monkeypatch.setattr(RewardModel, "model", lambda *_: pytest.fail("the model is loaded"))
    again = open_reward_model(str(folder), "key").rewards(Responses(table), cache)
    cache.close()
    assert np.array_equal(again, wanted)


def test_mixed_precision_casts_the_weights_once_and_gives_the_rewards_of_autocast(folder: Path) -> None:
    """To the last bit: autocast rounds the same float32 weights to the same bfloat16 ones in each forward pass."""
    responses = Responses(tiny.examples_table([([5, 6], [[7, 0], [8, 0]]), ([5, 9], [[7, 4, 0], [9, 0]])]))
    model = open_reward_model(str(folder), "key")
    found = model.rewards(responses, precision="bfloat16")
    weights = dict(model.model("bfloat16").named_parameters())
    linear = {name for name in weights if "_proj" in name}
    assert len(linear) == 7 * 2
    assert {name for name, weight in weights.items() if weight.dtype == torch.bfloat16} == linear
    plain = load_model(model.source, model.loading, "float32", head=REWARD)
    policy = ScoringPolicy("plain", "", lambda: plain, precision="bfloat16", head=REWARD)
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    assert np.array_equal(found, logps(responses, responses.packs(4096, abilities(plain).longest), policy, None))
    # Scoring in float32 has float32 weights again, and other rewards.
    exact = model.rewards(responses)
    assert {weight.dtype for weight in model.model().parameters()} == {torch.float32}
    assert not np.array_equal(exact, found)
    assert np.array_equal(exact, open_reward_model(str(folder), "key").rewards(responses))


def test_an_ensemble_by_hand() -> None:
    found = ensemble_rewards([np.array([1.0, 4.0]), np.array([2.0, 4.0]), np.array([6.0, 4.0])])
    assert found.mean.tolist() == [3.0, 4.0]
    assert found.spread == pytest.approx([math.sqrt(14 / 3), 0.0])
    assert found.cautious(2.0) == pytest.approx([3 - 2 * 2.160247, 4.0], abs=1e-6)


def test_a_policy_is_no_reward_model(tmp_path: Path) -> None:
    save_text_model(tmp_path, None)
    with pytest.raises(ModelError, match=rf"^key: {tmp_path} has no score \(LlamaForCausalLM\); give a reward model"):
        open_reward_model(str(tmp_path), "key")
    with pytest.raises(ModelError, match=r"^key: /nowhere/at/all: no such folder"):
        open_reward_model("/nowhere/at/all", "key")


def test_several_labels(folder: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, ignore_mismatched_sizes=True
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"LlamaForSequenceClassification has 3 labels; a reward model has one"):
        open_reward_model(str(tmp_path), "key")


def changed(folder: Path, value: float) -> None:
    """Fill the score with a number."""
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"].fill_(value)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_weight_that_is_nan(tmp_path: Path) -> None:
    changed(save_reward_model(tmp_path / "model"), math.nan)
    with pytest.raises(ModelError, match=r"^key: .*score\.weight has weights that are NaN or infinite"):
        open_reward_model(str(tmp_path / "model"), "key")


def test_rewards_that_are_not_finite_or_all_the_same(tmp_path: Path) -> None:
    model = save_reward_model(tmp_path / "model")
    changed(model, 3e38)
    with pytest.raises(ModelError, match=r"^key: .*: rewards that are not finite; the model is broken"):
        open_reward_model(str(model), "key").score(["a"] * 4, ["x", "y", "z", "w"])
    changed(model, 0.0)
    with pytest.raises(ModelError, match=r"^key: .*gives the reward 0 to all of 4 responses; its score is not trained"):
        open_reward_model(str(model), "key").score(["a"] * 4, ["x", "y", "z", "w"])


def test_a_conversation_needs_a_chat_template(tmp_path: Path) -> None:
    model = open_reward_model(str(save_reward_model(tmp_path / "model")), "key")
    with pytest.raises(ModelError, match="chat template"):
        model.score([PROMPT], ["apple"])


def test_an_adapter_is_opened_on_its_base(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with quiet_transformers():
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS"))
        adapted.save_pretrained(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(folder)
    own = open_reward_model(str(tmp_path / "adapter"), "key")
    wanted = open_reward_model(str(folder), "key").score([PROMPT] * 4, ANSWERS)
    np.testing.assert_allclose(own.score([PROMPT] * 4, ANSWERS), wanted, rtol=1e-5, atol=1e-6)

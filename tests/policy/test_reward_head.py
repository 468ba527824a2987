"""The head of a reward model: rewards of packed rows, of padded ones, and of transformers' own model."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError
from seralign.policy.abilities import abilities
from seralign.policy.admission import check_model
from seralign.policy.heads import LANGUAGE_MODEL, REWARD
from seralign.policy.heads.reward import pad_token
from seralign.policy.load import load_model
from seralign.policy.packing import make_batch, pack_sequences, pad_sequences
from seralign.policy.quiet import quiet_transformers

CONFIG = PolicyConfig()
SEQUENCES = [*tiny.make_sequences(5), ([5, 3], [7]), ([5, 3], [9]), ([5, 3], [9, 4]), ([8], [7])]


def reward_model(folder: Path, name: str = "llama", seed: int = 3, **how: object) -> torch.nn.Module:
    source = tiny.save_model(folder, name)
    torch.manual_seed(seed)
    return load_model(source, CONFIG, "float32", head=REWARD, **how)  # type: ignore[arg-type]


def alone(model: torch.nn.Module) -> torch.Tensor:
    """Rewards by transformers, one unpadded row at a time; the last token may be the padding token."""
    model.config.pad_token_id = None  # type: ignore[union-attr]
    found = [model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, 0] for prompt, response in SEQUENCES]
    return torch.stack(found).double().detach()


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_packed_padded_and_alone_are_the_same(tmp_path: Path, name: str) -> None:
    model = reward_model(tmp_path, name)
    able = abilities(model)
    assert not able.own_head
    wanted = alone(model)
    assert float(wanted.std()) > 0.2
    for batch in (pad_sequences(SEQUENCES), make_batch(SEQUENCES, able.longest)):
        torch.testing.assert_close(REWARD.values(model, **batch).detach(), wanted, rtol=1e-4, atol=1e-5)
    assert able.longest > 0


def test_ends_are_the_places_of_the_last_tokens() -> None:
    for batch in (pack_sequences(SEQUENCES), pad_sequences(SEQUENCES)):
        last = batch["input_ids"].flatten()[batch["ends"]].tolist()
        assert last == [response[-1] for _, response in SEQUENCES]


def test_gradients_of_a_pack_are_those_of_rows_alone(tmp_path: Path) -> None:
    model = reward_model(tmp_path)
    factors = torch.linspace(-1, 2, len(SEQUENCES), dtype=torch.float64)
    (REWARD.values(model, **pack_sequences(SEQUENCES)) * factors).sum().backward()
    packed = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    model.config.pad_token_id = None  # type: ignore[union-attr]
    for factor, (prompt, response) in zip(factors.tolist(), SEQUENCES, strict=True):
        (factor * model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, 0]).backward()
    assert "score.weight" in packed
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_a_new_head_is_small_depends_on_the_seed_and_drops_the_output_layer(tmp_path: Path) -> None:
    weights = [reward_model(tmp_path / "model", "qwen2", seed).score.weight.detach() for seed in (3, 3, 4)]  # type: ignore
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert float(weights[0].std()) == pytest.approx((32 + 1) ** -0.5, rel=0.3)
    model = reward_model(tmp_path / "model", "qwen2")
    assert not any("lm_head" in name for name, _ in model.named_parameters())


def test_an_adapter_trains_and_saves_the_score(tmp_path: Path) -> None:
    model = reward_model(tmp_path / "base", trainable=True, lora=LoraConfig(r=2, alpha=4))
    whole = [name for name, parameter in model.named_parameters() if parameter.requires_grad and "lora_" not in name]
    assert whole == ["base_model.model.score.modules_to_save.default.weight"]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    wanted = REWARD.values(model, **pack_sequences(SEQUENCES)).detach()
    with quiet_transformers():
        model.save_pretrained(tmp_path / "adapter")  # type: ignore[operator]
    source = tiny.PolicySource(str(tmp_path / "base"), adapter=str(tmp_path / "adapter"))
    check_model(source, CONFIG, head=REWARD)
    again = load_model(source, CONFIG, "float32", head=REWARD)
    assert torch.equal(REWARD.values(again, **pack_sequences(SEQUENCES)), wanted)
    with pytest.raises(ModelError, match=r"trained for another task \(SEQ_CLS .* causal language model \(CAUSAL_LM\)$"):
        check_model(source, CONFIG)


def test_a_trained_reward_model_is_opened_with_its_score(tmp_path: Path) -> None:
    model = reward_model(tmp_path / "base")
    model.save_pretrained(tmp_path / "reward")  # type: ignore[operator]
    source = tiny.PolicySource(str(tmp_path / "reward"))
    check_model(source, CONFIG, head=REWARD)
    again = load_model(source, CONFIG, "float32", head=REWARD)
    assert torch.equal(again.score.weight, model.score.weight)  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="LlamaForSequenceClassification is a classifier; a causal"):
        check_model(source, CONFIG)


def test_several_labels_are_refused(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "base")
    with quiet_transformers():
        of_five = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=5)
        of_five.save_pretrained(tmp_path / "of five")
    with pytest.raises(ModelError, match="LlamaForSequenceClassification has 5 labels; a reward model has one"):
        check_model(tiny.PolicySource(str(tmp_path / "of five")), CONFIG, head=REWARD)


def test_a_family_without_a_class_for_it(tmp_path: Path) -> None:
    source = tiny.save_model(tmp_path, "cohere")
    check_model(source, CONFIG, head=LANGUAGE_MODEL)
    with pytest.raises(ModelError, match="transformers has no class of Cohere for a reward model"):
        check_model(source, CONFIG, head=REWARD)


def test_the_padding_token_ends_no_response() -> None:
    tokenizer = tiny.make_tokenizer()
    assert pad_token(tokenizer, frozenset({tiny.EOS})) == tiny.PAD
    # The usual case of a padding token that is the end token.
    tokenizer.pad_token = tokenizer.eos_token
    assert pad_token(tokenizer, frozenset({tiny.EOS})) == tiny.BOS
    everything = frozenset(range(len(tokenizer)))
    assert pad_token(tokenizer, everything - {17}) == 17
    with pytest.raises(ModelError, match="no token besides those that end a response"):
        pad_token(tokenizer, everything)

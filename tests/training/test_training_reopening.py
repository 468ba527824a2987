"""What training saves can be opened again, and that is known before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import GenerationConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.trainer_utils import align_special_tokens

from seralign.errors import ModelError
from seralign.policy.quiet import quiet_transformers
from seralign.training.reopening import OpensAgain, check_opens


def with_more_tokens() -> Any:
    """[PAD] was added to the tokenizer, and the embedding of 48 rows was not resized."""
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == 48
    return tokenizer


@pytest.mark.parametrize("own", [None, 1, -1])
def test_the_models_own_pad_token_is_kept(own: int | None, tmp_path: Path) -> None:
    model, tokenizer = tiny.make_model(), with_more_tokens()
    model.config.pad_token_id = own
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=own)  # pyright: ignore
    opens = OpensAgain(model, tokenizer)
    with quiet_transformers():
        align_special_tokens(model, tokenizer)  # as transformers' trainer does
        assert model.config.pad_token_id == 48
        with pytest.raises(ModelError, match="cannot be loaded again"):
            check_opens(model, tokenizer)
        opens.on_train_begin(None, None, None)
        model.save_pretrained(tmp_path)
        opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert opened.config.pad_token_id == own
    assert model.generation_config.pad_token_id == (1 if own == 1 else None)  # pyright: ignore


def test_published_settings_that_transformers_would_refuse_of_others_are_saved(tmp_path: Path) -> None:
    model, tokenizer = tiny.make_model(), tiny.make_tokenizer()
    model.generation_config = GenerationConfig(eos_token_id=3, temperature=0.6)  # pyright: ignore
    opens = OpensAgain(model, tokenizer)
    with quiet_transformers():
        align_special_tokens(model, tokenizer)
        opens.on_train_begin(None, None, None)
        model.save_pretrained(tmp_path)
        again = GenerationConfig.from_pretrained(tmp_path)
    assert again.temperature == 0.6
    assert set(again.eos_token_id) == {0, 3}  # pyright: ignore


def test_settings_of_another_size_than_the_weights_are_refused() -> None:
    model = tiny.make_model()
    model.config.vocab_size = 60
    with pytest.raises(ModelError, match=r"config\.json says 60 tokens and the embedding has 48"):
        check_opens(model, tiny.make_tokenizer())

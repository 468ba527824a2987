"""Checks before the first step that what a training will save can be loaded again."""

from __future__ import annotations

import tempfile
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, TrainerCallback

from seralign.errors import ModelError, brief
from seralign.policy.forward import inner_model
from seralign.progress import say_once

_OPENED: WeakSet[PreTrainedTokenizerBase] = WeakSet()


class OpensAgain(TrainerCallback):
    """Keeps the padding token of the model, and checks that what will be saved can be loaded.

    The trainer of transformers writes the padding token of the tokenizer into the settings of the model. Nothing here
    needs it, and an id beyond the embedding makes a model that cannot be loaded.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._tokenizer = inner_model(model), tokenizer
        self._pad = self._model.config.get_text_config().pad_token_id
        generation = _generation(self._model)
        self._generation_pad = None if generation is None else _valid(generation.pad_token_id, self._model)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = self._model
        model.config.get_text_config().pad_token_id = self._pad
        generation = _generation(model)
        if generation is not None:
            generation.pad_token_id = self._generation_pad
            # transformers refuses to save some published settings, such as a temperature without sampling, unless it
            # knows that they have not changed; this tells it so.
            generation._original_object_hash = hash(generation)
        check_opens(model, self._tokenizer)


def check_opens(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save the settings of a model and its tokenizer, and load both again. No weights are written.

    Raises:
        ModelError: what would be saved cannot be loaded, or differs from the original.
    """
    with tempfile.TemporaryDirectory(prefix="seralign-opens-") as folder:
        try:
            model.config.save_pretrained(folder)
            settings = type(model.config).from_pretrained(folder)
            if (generation := _generation(model)) is not None:
                generation.save_pretrained(folder)
                GenerationConfig.from_pretrained(folder)
            with torch.device("meta"):
                opened: Any = type(model)(settings)
            tokens = _saved_tokens(tokenizer, folder)
        except Exception as error:
            raise ModelError(f"what training would save cannot be loaded again: {brief(error)}") from None
    weights = [each.get_input_embeddings().weight for each in (opened, model)]
    rows, own = (getattr(weight, "ds_shape", weight.shape)[0] for weight in weights)  # DeepSpeed's whole shape
    if rows != own:
        raise ModelError(
            f"what training would save cannot be loaded again: config.json says {rows} tokens and the embedding "
            f"has {own}"
        )
    if tokens != tokenizer.get_vocab():
        say_once(
            "warning: policy.tokenizer: if saved with this model, AutoTokenizer loads it with different tokens, as "
            "the model family has its own tokenizer class; load the result with the original tokenizer"
        )
    _OPENED.add(tokenizer)


def _saved_tokens(tokenizer: PreTrainedTokenizerBase, folder: str) -> dict[str, int]:
    """The vocabulary of the saved tokenizer; each tokenizer is saved and loaded once."""
    if tokenizer in _OPENED or getattr(tokenizer, "_auto_class", None) is not None:  # code of its own
        return tokenizer.get_vocab()
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder).get_vocab()


def _valid(pad: int | None, model: Any) -> int | None:
    return pad if pad is not None and 0 <= pad < model.get_input_embeddings().weight.shape[0] else None


def _generation(model: Any) -> Any:
    """The generation settings of a model; a reward model has none."""
    return getattr(model, "generation_config", None)

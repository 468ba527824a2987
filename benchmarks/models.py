"""The models of the benchmarks: a random Llama of 17 million parameters with a tokenizer trained on the data, and any
saved model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 16384
WINDOW = 1024
END = "<|end|>"
# Special tokens on both sides of each text: no token spans prompt and response, whoever tokenizes them, and a
# response ends with its end token and nothing after it.
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# ChatML with nothing after the end token of the last message: as published it has a line break there, on which one
# side would train and the other not.
_CHATML = (
    "{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "<|im_start|>{{ message['role'] }}{{ '\\n' }}{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a random Llama with tied embeddings: ``inner`` is the width of its feed-forward part."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    vocabulary: int = VOCABULARY


SMALL = LlamaShape(layers=6, width=384, inner=1024, heads=6, key_heads=6)


def prepare_model(
    given: Path | None, folder: Path, texts: Iterable[str], shape: LlamaShape = SMALL
) -> tuple[PreTrainedTokenizerFast, int]:
    """Save the model of a benchmark in ``folder``: a copy of ``given``, or where that is None a random Llama.

    Returns:
        Its tokenizer, and the number of its parameters.
    """
    if given is not None:
        return copy_chatml_model(given, folder)
    tokenizer = make_tokenizer(texts)
    return tokenizer, save_model(folder, tokenizer, shape=shape)


def copy_chatml_model(source: Path, folder: Path) -> tuple[PreTrainedTokenizerFast, int]:
    """Save a ChatML model again with float32 weights, and with its template cut at the end token."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    if "<|im_start|>" not in (tokenizer.chat_template or ""):
        raise SystemExit(f"--model {source}: its chat template is not ChatML")
    tokenizer.chat_template = _CHATML
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, model.num_parameters()


def make_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``, with a chat template of special tokens."""
    bpe = ByteLevelBPETokenizer()
    special = ["<|pad|>", END, "<|user|>", "<|assistant|>"]
    bpe.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=special, show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token=END,
        pad_token="<|pad|>",
        extra_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int = 0, shape: LlamaShape = SMALL) -> int:
    """Save a random Llama and its tokenizer; returns its parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=shape.vocabulary,
                hidden_size=shape.width,
                intermediate_size=shape.inner,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.key_heads,
                max_position_embeddings=WINDOW,
                tie_word_embeddings=True,
                initializer_range=0.02,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.num_parameters()

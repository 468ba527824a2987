"""Create a tokenizer and an untrained model for the AlpacaEval example. Nothing is downloaded.

    python examples/alpaca_eval/prepare.py ../shared/data/alpaca_eval_pairs.jsonl.gz runs/alpaca_eval_model

The tokenizer is a byte-level BPE with 8,192 tokens, trained on the prompts and responses. The model is a Llama with
about ten million parameters and a ChatML template. If you set ``policy.model`` to a model on the hub, you do not need
this script.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def texts(path: Path) -> Iterator[str]:
    """The prompts and responses of the pairs."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield from (row["prompt"], row["response_a"], row["response_b"])


def make_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with the special tokens of ChatML."""
    bpe = ByteLevelBPETokenizer()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(texts(path), vocab_size=vocabulary, special_tokens=special, show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Create an untrained Llama with about ten million parameters."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=320,
            intermediate_size=864,
            num_hidden_layers=6,
            num_attention_heads=5,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def main() -> None:
    """Write the tokenizer and the model into one folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", type=Path, help="alpaca_eval_pairs.jsonl.gz")
    parser.add_argument("out", type=Path, help="folder of the model")
    given = parser.parse_args()
    tokenizer = make_tokenizer(given.pairs, vocabulary=8192)
    model = make_model(tokenizer)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    print(f"{given.out}: {model.num_parameters() / 1e6:.1f} million parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()

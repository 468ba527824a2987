"""A tiny random model that reads and writes any text."""

from __future__ import annotations

from pathlib import Path

import tiny
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_text_model(folder: Path, chat_template: str | None, name: str = "llama") -> None:
    """A tiny random model that reads any text, byte by byte; ``name`` is its architecture in ``tiny``."""
    special = ["</s>", "<pad>", "<s>"]
    symbols = special + sorted(ByteLevel.alphabet())
    settings = {"vocab_size": len(symbols), "max_position_embeddings": 1024}
    tiny.save_model(folder, name, **settings)
    tokenizer = Tokenizer(BPE({symbol: number for number, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        bos_token="<s>",
        chat_template=chat_template,
    ).save_pretrained(folder)

"""The model of a built-in language: an untrained Llama with about 0.1 million weights, and its word tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from seralign.laboratory.clauses import VOCABULARY
from seralign.laboratory.grammar import BOS, EOS, PAD, SEP
from seralign.policy.quiet import quiet_transformers

POSITIONS = 64


def save_model(folder: Path, seed: int, vocabulary: tuple[str, ...] = VOCABULARY, positions: int = POSITIONS) -> None:
    """Save model and tokenizer in a folder, for ``AutoModelForCausalLM`` and ``AutoTokenizer``.

    The weights depend only on ``seed`` and the size of the vocabulary. torch's global random state is unchanged.
    """
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
        pad_token_id=vocabulary.index(PAD),
        bos_token_id=vocabulary.index(BOS),
        eos_token_id=vocabulary.index(EOS),
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with quiet_transformers():
        model.save_pretrained(folder)
        build_tokenizer(vocabulary, positions).save_pretrained(folder)


def build_tokenizer(vocabulary: tuple[str, ...] = VOCABULARY, positions: int = POSITIONS) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word between spaces. Encoding with special tokens adds ``<bos>`` in front.
    ``<sep>`` is an ordinary token and is kept in decoded text. A word outside the vocabulary is an error."""
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(vocabulary)}))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary.index(BOS))]
    )
    # As an added token it also ends a word if no space follows it.
    tokenizer.add_tokens([AddedToken(SEP, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )

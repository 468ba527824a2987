"""Texts as token ids for models that score responses. They are read exactly as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from seralign.config import DataConfig, PolicyConfig
from seralign.data.content import Ids, Unencoded
from seralign.data.tokens import EMPTY_RESPONSE, Encoder, make_encoder
from seralign.errors import DataError
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens
from seralign.policy.settings import model_settings, positions

# Longest text that is scored, if the model's settings do not say.
_LONGEST = 32768


def text_encoder(
    source: PolicySource, loading: PolicyConfig, tokenizer: PreTrainedTokenizerBase, data: DataConfig | None = None
) -> Encoder:
    """The encoder of a model. A text that is longer than the model's window is left out, not cut.

    ``data``: how its prompts became tokens in training, such as with a system message.
    """
    window = min(positions(model_settings(source, loading)), _LONGEST)
    limits = replace(data or DataConfig(), max_length=window, max_prompt_length=window - 1, overlong="drop")
    return make_encoder(tokenizer, limits, end_tokens(source, tokenizer))


def scored_tokens(encoder: Encoder, examples: Sequence[Unencoded]) -> list[tuple[Ids, Ids]]:
    """(prompt ids, response ids) of examples of one response each. An empty response is its end token alone.

    Raises:
        DataError: an example cannot be read, or is longer than the model's window.
        ModelError: a prompt is a conversation, and the tokenizer has no chat template.
    """
    found = []
    for example, given in zip(examples, encoder.encode(examples), strict=True):
        encoded, ends = given, None
        if given == EMPTY_RESPONSE:
            (encoded,) = encoder.encode([Unencoded(example.prompt, (), example.where, example.inputs)])
            ends = (encoder.tokenizer.eos_token_id,)
        if isinstance(encoded, str):
            most = encoder.data.max_length
            raise DataError(f"{example.where} cannot be scored: {encoded} (the model takes at most {most} tokens)")
        found.append((encoded.prompt_ids, ends or encoded.response_ids[0]))
    return found

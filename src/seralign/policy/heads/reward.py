"""The head of a reward model: one number, read at the last token of a response.

The model is an ``AutoModelForSequenceClassification`` with one label, as other libraries open it. transformers reads
its score at the last token of a row that is not the padding token, whatever the attention mask says. So the padding
token of a reward model must be no token that ends a response.

Legend: B rows, T tokens of a row, R responses, W width of the hidden states.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from seralign.errors import ModelError
from seralign.policy.abilities import abilities
from seralign.policy.forward import end_rewards, inner_model
from seralign.policy.heads.base import Head
from seralign.policy.precision import exact_dtype


def response_rewards(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    ends: Tensor,
    position_ids: Tensor | None = None,
    source: Tensor | None = None,
    target: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Rewards of responses: the score of the model at the last token of each.

    Args:
        model: A model with a score of one label.
        input_ids: [B, T].
        attention_mask: [B, T], or the layout of a packed row.
        ends: [R] position in the flattened ``input_ids`` of the last token of each response.
        position_ids: [B, T], for packed rows.
        source, target, lengths: Not read: a batch of ``seralign.policy.packing`` has them for language models.

    Returns:
        [R], differentiable.
    """
    able = abilities(model)
    found = end_rewards(
        model, input_ids, attention_mask, ends, position_ids, own_attention=able.attention, own_head=able.own_head
    )
    return found.to(exact_dtype(found.device))


def pad_token(tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> int:
    """A token that a reward model can be padded with: no token that ends a response.

    It is the tokenizer's padding token if that ends no response, else its unknown token, else another special token,
    else the last token of the vocabulary.

    Raises:
        ModelError: every token ends a response.
    """
    known: list[Any] = [tokenizer.pad_token_id, tokenizer.unk_token_id, *sorted(tokenizer.all_special_ids)]
    for token in (*known, *range(len(tokenizer) - 1, -1, -1)):
        if isinstance(token, int) and token not in end_tokens:
            return token
    raise ModelError("the tokenizer (policy.tokenizer) has no token besides those that end a response")


def _begin(model: PreTrainedModel) -> None:
    """Draw the weights of a new score from N(0, 1 / (W + 1)), as 1909.08593 and 2009.01325 do.

    The first rewards differ then by about 1, so that the layers below learn from the first step on.
    """
    score: Any = model.score
    nn.init.normal_(score.weight, std=(score.weight.shape[1] + 1) ** -0.5)


def _prepare(model: Any, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> PreTrainedTokenizerBase:
    """Give model and tokenizer the same padding token."""
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = tokenizer.convert_ids_to_tokens(pad_token(tokenizer, end_tokens))
    inner_model(model).config.get_text_config().pad_token_id = padded.pad_token_id
    return padded


REWARD = Head(
    name="reward",
    kind="reward model",
    opens=AutoModelForSequenceClassification,
    families=MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    task="SEQ_CLS",
    values=response_rewards,
    begin=_begin,
    prepare=_prepare,
    architectures=("ForSequenceClassification",),
    options={"num_labels": 1},
    added=re.compile(r"^score\.weight$"),
    dropped=re.compile(r"^(lm_head|embed_out|output)\.(weight|bias)$"),
)

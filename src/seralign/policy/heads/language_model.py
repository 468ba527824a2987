"""The head of a language model: the value of a response is its log-probability."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from seralign.policy.heads.base import Head
from seralign.policy.logprobs import response_logps


def _as_it_is(model: Any, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> PreTrainedTokenizerBase:
    return tokenizer


LANGUAGE_MODEL = Head(
    name="language_model",
    kind="causal language model",
    opens=AutoModelForCausalLM,
    families=MODEL_FOR_CAUSAL_LM_MAPPING,
    task="CAUSAL_LM",
    values=response_logps,
    begin=lambda _: None,
    prepare=_as_it_is,
)

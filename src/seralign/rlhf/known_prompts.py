"""A tokenizer that gives known prompts exactly the tokens that the run has for them.

The trainers of TRL encode prompts from text, some with special tokens and some without. The prompts of a run are
encoded once, when the data are read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase


def with_known_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Mapping[str, Sequence[int]], end_tokens: frozenset[int]
) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer for a trainer of TRL. It encodes each known text as its ids, other texts as before.

    Args:
        tokenizer: Of the policy; it is not changed.
        prompts: Mapping from texts to token ids.
        end_tokens: Ids that end a response; one of them becomes the end token of a tokenizer that has none.
    """
    copied: Any = copy.deepcopy(tokenizer)
    kind: Any = type(copied)

    def call(self: Any, text: Any = None, *others: Any, **options: Any) -> Any:
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) and one in prompts for one in texts):
            return kind.__call__(self, text, *others, **options)
        ids = [list(prompts[one]) for one in texts]
        if isinstance(text, str):
            return self.pad({"input_ids": ids[0]}, padding=False)
        padding = {key: options[key] for key in ("padding", "return_tensors", "padding_side") if key in options}
        return self.pad({"input_ids": ids}, **({"padding": False} | padding))

    # Saved under the name of its class, as the original.
    copied.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    if copied.eos_token is None:
        copied.eos_token = copied.convert_ids_to_tokens(min(end_tokens))
    if copied.pad_token is None:
        copied.pad_token = copied.eos_token
    # Some trainers put it before prompts that do not begin with it.
    copied.bos_token = None
    copied.padding_side = "left"
    return copied

"""What a head is: how a model with it is opened, and what it says of each response of a pack."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ResponseModel = Callable[..., Tensor]
"""Maps a model and the tensors of a pack, from ``seralign.policy.packing``, to one value for each response [R]."""

NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class Head:
    """The last layer of a model, and what is read from it.

    Args:
        name: Its name in ``HEADS``.
        kind: The kind of model, for messages.
        opens: The class of transformers that opens a model with this head, such as ``AutoModelForCausalLM``.
        families: The mapping of that class, from the class of a model's settings to that of the model.
        task: The task type of PEFT. An adapter saves a head that is not part of the base.
        values: The value of each response.
        architectures: Endings of architectures that have this head, and are refused as a language model.
        options: Settings that a model is opened with.
        added: Weights that a model without this head lacks. They are initialised by ``begin``.
        dropped: Weights of another head that are left out.
        begin: Initialises the head of a model that had none.
        prepare: What training needs before it: may change the model's settings, and returns the tokenizer to save.
    """

    name: str
    kind: str
    opens: Any
    families: Any
    task: str
    values: ResponseModel
    begin: Callable[[PreTrainedModel], None]
    prepare: Callable[[Any, PreTrainedTokenizerBase, frozenset[int]], PreTrainedTokenizerBase]
    architectures: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    added: re.Pattern[str] = NOTHING
    dropped: re.Pattern[str] = NOTHING

"""The policy and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seralign.checks import positive, require
from seralign.config.training import DataType
from seralign.errors import ConfigError


@dataclass(frozen=True)
class LoraConfig:
    """A fresh LoRA adapter.

    Args:
        r: Rank.
        alpha: Scale: the adapter's output counts ``alpha / r``.
        target_modules: Names of modules as in PEFT, or ``all-linear``.
    """

    r: int = 16
    alpha: int = 32
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        require(self.r > 0, "r", "greater than 0", self.r)
        positive(self.alpha, "alpha")
        require(len(self.target_modules) > 0, "target_modules", "all-linear or names of modules", self.target_modules)


@dataclass(frozen=True)
class PolicyConfig:
    """The model that is trained.

    Args:
        model: A folder or a model's name on the hub.
        revision: Commit or tag on the hub.
        tokenizer: Folder or name of the tokenizer; by default the one that was saved with the adapter, if any, or
            else the model's.
        chat_template: A Jinja chat template, or the path of a file with one, in place of the tokenizer's.
        adapter: A trained PEFT adapter to go on from; the reference is then a frozen copy of it. With ``lora`` it is
            merged into the model before anything is trained, and stays as it is.
        lora: Train a fresh LoRA adapter; the reference is then the model without it.
        dtype: Data type of the weights in training and sampling. Training ``bfloat16`` weights loses small updates;
            for mixed precision keep ``float32`` here and set ``training.precision``.
        save_dtype: Data type of the weights in ``result``; ``auto`` is the one that the model came in. The rounds keep
            theirs in ``dtype``, so that none of them loses small updates.
        attention: Attention implementation of transformers. By default rows are packed and prompts shared where the
            architecture allows it, and the model's own choice is taken elsewhere; with a name, rows are padded.
        trust_remote_code: Run code that comes with the model.
        start: Each round starts from the ``previous`` round's policy or from the ``initial`` one.
    """

    model: str | None = None
    revision: str | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    adapter: str | None = None
    lora: LoraConfig | None = None
    dtype: DataType = "float32"
    save_dtype: DataType | Literal["auto"] = "auto"
    attention: str | None = None
    trust_remote_code: bool = False
    start: Literal["previous", "initial"] = "previous"

    @property
    def merges(self) -> bool:
        """Whether a trained adapter is merged into the model, for a fresh one to be trained on both."""
        return self.adapter is not None and self.lora is not None


@dataclass(frozen=True)
class ReferenceConfig:
    """The policy that implicit rewards are measured against.

    Args:
        model: A folder or hub name; by default the weights that the policy starts from (after ``sft``).
        revision: Commit or tag on the hub.
        adapter: An adapter on ``model``.
        update: ``never`` keeps one reference for all rounds; ``each_round`` takes the previous round's policy.
    """

    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    update: Literal["never", "each_round"] = "never"

    def __post_init__(self) -> None:
        if self.adapter and not self.model:
            raise ConfigError("adapter needs model, the one that it was trained on")

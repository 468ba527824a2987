"""The policy and the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from seralign.checks import fraction, positive, require
from seralign.config.training import DataType
from seralign.errors import ConfigError

# Beyond it an adapter has more weights than the matrices that it is put on.
MAX_RANK = 8192
# Names with commas between them, where one regular expression or a list is meant.
_NAMES = re.compile(r"[\w.]+(?:\s*,\s*[\w.]+)+")


@dataclass(frozen=True)
class LoraConfig:
    """A new LoRA adapter.

    Args:
        r: Rank.
        alpha: Scale. The output of the adapter is multiplied by ``alpha / r``.
        target_modules: Names of modules as in PEFT, or ``all-linear``.
    """

    r: int = 16
    alpha: int = 32
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        require(0 < self.r <= MAX_RANK, "r", f"between 1 and {MAX_RANK}", self.r)
        positive(self.alpha, "alpha")
        if isinstance(self.target_modules, str) and _NAMES.fullmatch(self.target_modules):
            names = ", ".join(name.strip() for name in self.target_modules.split(","))
            raise ConfigError(f"target_modules: {self.target_modules!r} is one text; give a list: [{names}]")
        require(len(self.target_modules) > 0, "target_modules", "all-linear or names of modules", self.target_modules)


@dataclass(frozen=True)
class PolicyConfig:
    """The model that is trained.

    Args:
        model: A folder, or the name of a model on the hub.
        revision: Commit or tag on the hub.
        tokenizer: Folder or name of the tokenizer. Default: the one that was saved with the adapter, if any, or else
            that of the model.
        chat_template: A Jinja chat template, or the path of a file with one. It replaces the tokenizer's template.
        adapter: A trained PEFT adapter to train further. The reference is a frozen copy of it. With ``lora``, it is
            merged into the model before training, and is not trained itself.
        lora: Train a new LoRA adapter. The reference is the model without it.
        dtype: Data type of the weights in training and sampling. Training ``bfloat16`` weights loses small updates. For
            mixed precision, keep ``float32`` here and set ``training.precision``.
        save_dtype: Data type of the weights in ``result``. ``auto`` is the data type that the model came in. The rounds
            keep their weights in ``dtype``, so that no small updates are lost.
        attention: Attention implementation of transformers. By default, rows are packed and prompts are shared if the
            architecture allows it; otherwise the default implementation of the model is used. If an implementation is
            named here, rows are padded.
        trust_remote_code: Run code that comes with the model.
        start: Each round starts from the policy of the ``previous`` round, or from the ``initial`` policy.
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
        """Whether a trained adapter is merged into the model before a new adapter is trained."""
        return self.adapter is not None and self.lora is not None


@dataclass(frozen=True)
class ReferenceConfig:
    """The policy relative to which implicit rewards are measured.

    Args:
        model: A folder, or the name of a model on the hub. Default: the starting policy (after ``sft``).
        revision: Commit or tag on the hub.
        adapter: An adapter on ``model``.
        update: ``never`` keeps one reference for all rounds. ``each_round`` uses the policy of the previous round.
            ``average`` uses the moving average of the policies before, with ``bootstrap.sample_from: average``.
        sync_steps: Move the reference towards the policy after every so many optimizer steps of a training (TR-DPO). It
            begins each training at the policy itself, so several rounds need ``update: each_round``. Null for a
            reference that stays.
        mixup: Share of the policy's weights in the moved reference. At 1, the reference becomes the policy.
    """

    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    update: Literal["never", "each_round", "average"] = "never"
    sync_steps: int | None = None
    mixup: float = 1.0

    def __post_init__(self) -> None:
        require(self.sync_steps is None or self.sync_steps >= 1, "sync_steps", "at least 1, or null", self.sync_steps)
        fraction(self.mixup, "mixup")
        if self.sync_steps is None and self.mixup != 1.0:
            raise ConfigError("mixup has no effect without sync_steps; set sync_steps, or remove it")
        if self.sync_steps is not None and self.model is not None:
            raise ConfigError("sync_steps moves the reference from the policy itself; remove it, or model")
        if self.adapter and not self.model:
            raise ConfigError("adapter needs model: set the model that it was trained on")

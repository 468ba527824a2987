"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from seralign.progress import Bar


class StepBar(TrainerCallback):
    """Moves a bar by the steps of a training, with some metrics beside it.

    Args:
        line: The bar.
        shown: Mapping from the names of metrics to the words for them.
    """

    def __init__(self, line: Bar, shown: Mapping[str, str]) -> None:
        self._line = line
        self._shown = shown

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._line.at(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._line.at(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        words = [f"{word} {logs[name]:.3f}" for name, word in self._shown.items() if logs and name in logs]
        if words:
            self._line.note("  ".join(words))

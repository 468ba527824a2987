"""Ends a training in good order when SIGTERM is received."""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback

from seralign import distributed
from seralign.progress import say
from seralign.termination import Request


def stop_on(trainer: Trainer, request: Request) -> None:
    """Let a trainer save a checkpoint and end when SIGTERM was received."""
    # Before the checkpoint's marker, which logs where a checkpoint is to be saved.
    trainer.callback_handler.callbacks.insert(0, _StopsOnRequest(request))


class _StopsOnRequest(TrainerCallback):
    """Saves a checkpoint after the step in which SIGTERM was received, in any process, and ends the training."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if any(distributed.gather(self._request.made)):
            say(f"SIGTERM: saving a checkpoint at step {state.global_step}")
            control.should_save = control.should_training_stop = True

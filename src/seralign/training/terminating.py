"""Ends a training in good order when SIGTERM is received."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from seralign import distributed
from seralign.progress import say
from seralign.termination import Request


class StopsOnRequest(TrainerCallback):
    """Saves a checkpoint after the step in which SIGTERM was received, in any process, and ends the training.

    It comes before callbacks that look at whether a checkpoint is to be saved.
    """

    def __init__(self, request: Request) -> None:
        self._request = request

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if any(distributed.gather(self._request.made)):
            say(f"SIGTERM: saving a checkpoint at step {state.global_step}")
            control.should_save = control.should_training_stop = True

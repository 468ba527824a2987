"""Attempts at a run that may be killed, each in a fork, which has everything imported."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

import torch

import seralign.pipeline  # noqa: F401  imported before forking, so that attempts are quick


def ends_by_itself(attempt: Callable[[], object]) -> bool:
    """Whether an attempt in a fork ended by itself; otherwise it was killed. An attempt that raises is a failure."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            attempt()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True

"""Killed at any moment and started again, a run ends as if it had not been killed."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from forked import ends_by_itself
from small_run import small_config

from seralign import train

# In which of its durable writes (and training steps) each attempt dies; varied, so that it dies before, between and
# after the writes of every stage, and so that each attempt gets further than some attempt before it.
DEATHS = (5, 17, 3, 29, 11)


def _kill_at(event: int) -> None:
    """Make this process kill itself when it is about to do its ``event``-th write or training step."""
    from seralign.runs.cache import LogpCache
    from seralign.runs.results import Results
    from seralign.training.trainer import PreferenceTrainer

    counter = itertools.count(1)

    def dying(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(counter) == event:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    Path.replace = dying(Path.replace)
    LogpCache.put = dying(LogpCache.put)
    Results.put = dying(Results.put)
    PreferenceTrainer.training_step = dying(PreferenceTrainer.training_step)
    PreferenceTrainer._save_checkpoint = dying(PreferenceTrainer._save_checkpoint)
    PreferenceTrainer._save_optimizer_and_scheduler = dying(PreferenceTrainer._save_optimizer_and_scheduler)


def _attempt(out: Path, event: int | None, **overrides: Any) -> bool:
    """Whether a run ended by itself, killed at its ``event`` where that is not None."""

    def attempt() -> None:
        if event is not None:
            _kill_at(event)
        train(small_config(out, **overrides))

    return ends_by_itself(attempt)


def _outputs(out: Path) -> dict[str, dict[str, str]]:
    """Every file of every stage by digest."""
    from seralign.runs import read_run

    return {record.name: record.outputs for record in read_run(out).stages()}


_REVIEWED = {
    "crossfit": {"folds": 2, "trust": 0.6, "keep": 0.8}, "rounds": 1,
    "evaluation__baseline": False, "evaluation__prompts": 0,
    "world__spurious_strength": 5.0, "world__noise": 0.0, "training__learning_rate": 3e-3, "training__max_steps": 10,
}  # fmt: skip


# Samples from the average of the policies, and replays pairs of the rounds before.
_SAPO = {
    "recipe": "sapo", "bootstrap": {"prompts": 12, "max_new_tokens": 4, "batch_size": 8, "replay": 2},
    "evaluation__baseline": False, "evaluation__prompts": 0, "evaluation__token_pairs": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {
            "policy__lora": {"r": 2},
            "rounds": 2,
            "policy__start": "initial",
            "scoring__length_correction": "balanced",
        },
        _REVIEWED,
        pytest.param(_SAPO, marks=pytest.mark.real),
    ],
)
def test_a_run_killed_everywhere_ends_as_an_uninterrupted_one(tmp_path: Path, overrides: dict[str, Any]) -> None:
    assert _attempt(tmp_path / "whole", None, **overrides)
    deaths = 0
    while not _attempt(tmp_path / "killed", DEATHS[deaths % len(DEATHS)], **overrides):
        deaths += 1
        assert deaths < 200, "the run makes no progress"
    assert deaths > 20
    whole, killed = _outputs(tmp_path / "whole"), _outputs(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for stage in whole:
        # Paths of the run are in an adapter's settings and in the model card.
        texts = {"policy/adapter_config.json", "adapter_config.json", "policy/README.md", "README.md"}
        differing = {name for name in whole[stage].keys() | killed[stage].keys()
                     if whole[stage].get(name) != killed[stage].get(name)}  # fmt: skip
        assert differing <= texts, stage
    assert not list((tmp_path / "killed").rglob("*.partial"))

"""DPO on long dialogues with short answers: TRL's ``DPOTrainer`` at its best batch size, and seralign.

    python -m benchmarks.train_long_prompt --json FILE [--pairs FILE] [--threads N]

A random Llama of 17 million parameters (6 layers, width 384, vocabulary 16,384, tied embeddings), window 1024, float32
weights, in the same precision on both sides (``--precision``). Prompts have 400 tokens in four turns, answers
80 tokens. References are precomputed for both and not timed. Both see the same eight pairs in each step, sorted by
length within the step; TRL's batch size is the fastest of 1, 2, 4 and 8 on a few steps.
``equal``: the losses of all steps of all
repetitions agree within ``training.loss_tolerance``, and they moved by more than four times that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import Options, run


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts pairs."""
    from benchmarks.inputs import long_prompts
    from benchmarks.training import measure_training

    return measure_training(options, scratch, long_prompts)


if __name__ == "__main__":
    run("train_long_prompt", __doc__, 40, measure)

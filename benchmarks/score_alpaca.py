"""Log-probabilities (and so margins) of AlpacaEval pairs: TRL's reference precomputation at its best, and seralign.

    python -m benchmarks.score_alpaca --json FILE [--pairs FILE] [--threads N]

All pairs (six as a rule, which share the prompt and one answer) of some prompts, under a random Llama of 17 million
parameters with a window of 1024, in the same precision on both sides (``--precision``). TRL gets its rows sorted
by length, a reference model of its own (its head then computes no metrics) and the fastest batch size of 1, 2, 4 and 8;
loading and tokenizing are timed on neither side, no cache is used. ``equal``: every log-probability agrees within
its precision's rounding, and those of a part, and their margins, agree in float32 (``scoring.score_checks``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import Options, run


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts prompts."""
    from benchmarks import ours, peers
    from benchmarks.inputs import alpaca_prompts
    from benchmarks.scoring import Sides, measure_scoring

    sides = Sides(peers.precomputation, ours.scoring, "trl.DPOTrainer, precompute_ref_log_probs", "pairs", 1)
    return measure_scoring(options, scratch, alpaca_prompts, sides)


if __name__ == "__main__":
    run("score_alpaca", __doc__, 32, measure)

"""Implicit rewards of eight candidates a prompt: two plain forward passes a candidate, and seralign.

    python -m benchmarks.score_candidates --json FILE [--pairs FILE] [--threads N]

The prompts are those of ``score_long_prompt``, four turns and 400 tokens; the candidates are answers of AlpacaEval's
models to the last turn, cut to 80 tokens: what a round of bootstrapping on dialogues scores. The peer does what public
implicit-reward pipelines do: prompt and candidate through the policy and through the reference, all logits,
``log_softmax`` in float32, one candidate at a time or a padded batch of a prompt's candidates, the fastest of 1, 2, 4
and 8. Policy and reference are two random Llamas of 17 million parameters, in the same precision on both sides.
``equal``: as in ``score_alpaca``; the margin is the implicit reward, policy minus reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import Options, run


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts prompts."""
    from benchmarks import ours, peers
    from benchmarks.inputs import CANDIDATES, candidate_groups
    from benchmarks.scoring import Sides, measure_scoring

    sides = Sides(
        peers.plain_candidates, ours.candidates, "plain forward passes", "candidates", CANDIDATES, reference=True
    )
    return measure_scoring(options, scratch, candidate_groups, sides)


if __name__ == "__main__":
    run("score_candidates", __doc__, 16, measure)

"""Log-probabilities of AlpacaEval pairs under SmolLM2-135M-Instruct: TRL's precomputation, and seralign.

    python -m benchmarks.score_smollm2 --json FILE [--model FOLDER] [--pairs FILE] [--threads N]

As ``score_alpaca``, with the model of ``train_smollm2``.
"""

from __future__ import annotations

from benchmarks.common import SMOLLM2, run
from benchmarks.score_alpaca import measure

if __name__ == "__main__":
    run("score_smollm2", __doc__, 6, measure, model=SMOLLM2)

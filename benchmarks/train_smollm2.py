"""DPO of SmolLM2-135M-Instruct on AlpacaEval pairs: TRL's ``DPOTrainer`` at its best batch size, and seralign.

    python -m benchmarks.train_smollm2 --json FILE [--model FOLDER] [--pairs FILE] [--threads N]

As ``train_alpaca``, with a real model: 30 layers, width 576, a vocabulary of 49,152. The model is the one
that ``make demo-llm`` converts. Its ChatML template is cut after the end token on both sides.
"""

from __future__ import annotations

from benchmarks.common import SMOLLM2, run
from benchmarks.train_alpaca import measure

if __name__ == "__main__":
    run("train_smollm2", __doc__, 16, measure, model=SMOLLM2)

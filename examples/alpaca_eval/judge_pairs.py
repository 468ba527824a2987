"""Real pairs with clear labels, to measure a judge on: short answers of AlpacaEval 2.0 on which its annotator is sure.

    python -m examples.alpaca_eval.judge_pairs ../shared/data/alpaca_eval_pairs.jsonl.gz runs/judge_pairs.jsonl

Each row has a prompt, the response that GPT-4 Turbo as the annotator prefers with a probability of at least 0.9
(``chosen``), the other one (``rejected``), and the model that was compared with GPT-4 Turbo's answer (``model``).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import Any

_SURE = 0.9


def judge_pairs(path: Path, count: int, characters: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw pairs of different prompts.

    Args:
        path: ``alpaca_eval_pairs.jsonl.gz``.
        count: How many; fewer if there are no more.
        characters: Most characters of the prompt and both responses together.
        seed: Seed of the draw.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(seed).shuffle(rows)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt, a, b, p = row["prompt"], row["response_a"], row["response_b"], row["p_b"]
        if len(prompt) + len(a) + len(b) > characters or max(p, 1 - p) < _SURE or len(found) == count:
            continue
        chosen, rejected = (b, a) if p > 0.5 else (a, b)
        found.setdefault(prompt, {"prompt": prompt, "chosen": chosen, "rejected": rejected, "model": row["model_b"]})
    return list(found.values())


def main() -> None:
    """Write the pairs to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="alpaca_eval_pairs.jsonl.gz")
    parser.add_argument("out", type=Path, help="the file to write, .jsonl")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--characters", type=int, default=1500)
    given = parser.parse_args()
    rows = judge_pairs(given.pairs, given.count, given.characters)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

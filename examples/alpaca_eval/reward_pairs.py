"""Short pairs of AlpacaEval for a reward model on a CPU, and others on other prompts to measure it with.

python -m examples.alpaca_eval.reward_pairs PAIRS.jsonl.gz runs/smollm2-model runs/reward_pairs
seralign train examples/alpaca_eval/reward.yaml
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HELD_OUT, TRAINED_ON, TOKENS = 200, 240, 180
_COLUMNS = ("prompt", "response_a", "response_b", "p_b", "model_b")

Row = dict[str, Any]


def split(
    rows: Sequence[Row], tokens: Callable[[str], int], held_out: int = HELD_OUT, trained_on: int = TRAINED_ON
) -> tuple[list[Row], list[Row]]:
    """Pairs to train on and pairs to measure with, of different prompts.

    Args:
        rows: Pairs. Ties, and pairs whose prompt and longer response have more than 180 tokens, are left out.
        tokens: The number of tokens of a text.
        held_out: At most so many pairs to measure with; prompts are drawn for them first.
        trained_on: At most so many pairs to train on.
    """
    by_prompt: dict[int, list[Row]] = {}
    for row in rows:
        longest = max(tokens(row["response_a"]), tokens(row["response_b"]))
        if row["p_b"] != 0.5 and tokens(row["prompt"]) + longest <= TOKENS:
            by_prompt.setdefault(row["prompt_id"], []).append(row)
    names = sorted(by_prompt)
    random.Random(0).shuffle(names)
    test: list[Row] = []
    train: list[Row] = []
    for name in names:
        (test if len(test) < held_out else train).extend(by_prompt[name])
    random.Random(1).shuffle(train)
    return train[:trained_on], test[:held_out]


def main() -> None:
    """Write the two files."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    with gzip.open(given.pairs, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    given.out.mkdir(parents=True, exist_ok=True)
    for name, part in zip(("train", "heldout"), split(rows, lambda text: len(tokenizer(text).input_ids)), strict=True):
        lines = "".join(json.dumps({key: row[key] for key in _COLUMNS}) + "\n" for row in part)
        (given.out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{given.out / name}.jsonl: {len(part)} pairs on {len({row['prompt_id'] for row in part})} prompts")


if __name__ == "__main__":
    main()

"""Prompts, outputs of two imaginary policies, and a scorer.

    python examples/evaluate/sums.py
    seralign evaluate examples/evaluate/evaluate.yaml

``careful`` writes every sum correctly and at length; ``quick`` is short and forgets to carry.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path("runs/sums")
SUMS = [(first, second) for first in (12, 17, 25, 38, 46) for second in (11, 23, 34, 45, 59)]


def right(prompts: list[str], responses: list[str]) -> list[float]:
    """The scorer: 1 if the last number of a response is the sum of the two numbers of its prompt, else 0."""
    return [
        float(_numbers(text)[-1:] == [sum(_numbers(prompt))]) for prompt, text in zip(prompts, responses, strict=True)
    ]


def forget_to_carry(first: int, second: int) -> int:
    """Add the digits without carrying: 17 + 26 is 33."""
    return (first // 10 + second // 10) * 10 + (first % 10 + second % 10) % 10


def main() -> None:
    """Write the prompts, and the outputs in the formats of AlpacaEval and of ``seralign sample``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    prompts = [f"What is {first} + {second}?" for first, second in SUMS]
    careful = [f"Adding {first} and {second} gives {first + second}" for first, second in SUMS]
    quick = [str(forget_to_carry(first, second)) for first, second in SUMS]
    rows = [
        {"instruction": one, "output": text, "generator": "careful"} for one, text in zip(prompts, careful, strict=True)
    ]
    (FOLDER / "careful.json").write_text(json.dumps(rows), encoding="utf-8")
    _write_lines("prompts.jsonl", [{"prompt": one} for one in prompts])
    _write_lines("quick.jsonl", [{"prompt": one, "response": text} for one, text in zip(prompts, quick, strict=True)])


def _write_lines(name: str, rows: list[dict[str, str]]) -> None:
    (FOLDER / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


if __name__ == "__main__":
    main()

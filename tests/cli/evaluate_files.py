"""Files and a scorer for evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROMPTS = ["Say 1.", "Say 2.", "Say 3.", "Say 4."]
# Longer is better for the scorer ``length``: a wins twice, ties, and has the same text.
OUTPUTS = {"a": ["one, one", "two, two", "3 3", "four"], "b": ["one", "two", "6 6", "four"]}


def write_rows(path: Path, rows: list[Any]) -> str:
    """Write lines of JSON, or one list to a .json file."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def alpaca_rows(name: str, outputs: list[str]) -> list[dict[str, str]]:
    """Rows of AlpacaEval's ``model_outputs.json``."""
    return [
        {"instruction": prompt, "output": text, "generator": name}
        for prompt, text in zip(PROMPTS, outputs, strict=True)
    ]


def length(prompts: list[str], responses: list[str]) -> list[float]:
    """A scorer: the number of characters."""
    return [float(len(text)) for text in responses]

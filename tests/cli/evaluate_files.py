"""Files and a scorer for evaluations."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seralign.evaluation.judges import Comparison, Verdict
from seralign.servers.usage import Usage

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


class Scripted:
    """A judge with the options ``verdicts``, by the first response: the probability in both orders, or text for an
    error, or null for an answer that cannot be read; and ``log``, a file of the prompts that it is asked.

    It kills its process instead of the verdict with the number DIE_AT of the environment.
    """

    identity = "scripted 1"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None:
        self.verdicts, self.log = options.get("verdicts", {}), Path(options["log"])

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for number, comparison in enumerate(comparisons):
            if os.environ.get("DIE_AT") == str(number):
                os.kill(os.getpid(), signal.SIGKILL)
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{comparison.prompt.text}|{comparison.first}|{comparison.second}\n")
            found = self.verdicts.get(comparison.first, [0.75, 0.75])
            if isinstance(found, str):
                yield comparison, Verdict(None, error=found)
            elif found is None:
                yield comparison, Verdict(None, unreadable="Well ...", usage=Usage(2, 20, 4))
            else:
                first, second = found
                yield comparison, Verdict((first + second) / 2, orders=(first, second), usage=Usage(2, 20, 4))


class Known:
    """A judge that looks verdicts up in a file of prompt, first response and probability."""

    identity = "known 1"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None:
        rows = json.loads(Path(options["table"]).read_text(encoding="utf-8"))
        self.table = {(prompt, first): better for prompt, first, better in rows}

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for one in comparisons:
            yield one, Verdict(self.table[one.prompt.text, one.first])

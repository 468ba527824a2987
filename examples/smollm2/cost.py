"""What the training cost: the perplexity of policies on texts of others, the AlpacaEval answers of GPT-4 Turbo."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import seralign
from seralign.intervals import Interval, mean_interval
from seralign.policy.packing import pad_sequences
from seralign.runs.files import write_atomic

TEXTS = Path("../shared/data/alpaca_eval_pairs.jsonl.gz")
LONGEST = 256

Sequences = list[tuple[list[int], list[int]]]


def perplexities(model: Path, adapters: dict[str, Path | None], texts: int, file: Path = TEXTS) -> dict[str, Interval]:
    """Perplexity on the first tokens of answers, by policy; empty if the file is not there.

    Args:
        model: The folder of the model, with its tokenizer.
        adapters: Folders of LoRA adapters by the name of the policy; None for the model itself.
        texts: Number of answers, of different prompts.
        file: AlpacaEval pairs with ``prompt`` and ``response_a``.

    Returns:
        exp of the mean loss (nats a token) over the answers, with the interval over them.
    """
    if not file.is_file():
        print(f"{file} is not here: no perplexity")
        return {}
    sequences = _sequences(model, texts, file)
    found = {}
    for name, adapter in adapters.items():
        policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        if adapter is not None:
            policy = PeftModel.from_pretrained(policy, str(adapter))
        interval = mean_interval(_losses(policy.eval(), sequences))
        assert interval is not None
        ends = [None if end is None else math.exp(end) for end in (interval.low, interval.high)]
        found[name] = Interval(math.exp(interval.mean), ends[0], ends[1], interval.n)
    return found


def stored(file: Path) -> dict[str, Interval]:
    """Perplexities that were written to a file; empty if it is not there."""
    if not file.is_file():
        return {}
    return {name: Interval(**value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}


def store(found: dict[str, Interval], file: Path) -> None:
    """Write perplexities to a file."""
    text = json.dumps({name: value.to_dict() for name, value in found.items()}, indent=2)
    write_atomic(file, lambda part: part.write_text(f"{text}\n", encoding="utf-8"))


def _losses(policy: torch.nn.Module, sequences: Sequences) -> list[float]:
    """Mean loss of each text, in nats a token."""
    losses = []
    with torch.inference_mode():
        for prompt, response in sequences:
            logps = seralign.response_logps(policy, **pad_sequences([(prompt, response)]))
            losses.append(-float(logps[0]) / len(response))
    return losses


def _sequences(model: Path, texts: int, file: Path) -> Sequences:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows: dict[str, str] = {}
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            rows.setdefault(row["prompt"], row["response_a"])
            if len(rows) == texts:
                break
    return [
        (
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
            )[-LONGEST:],
            tokenizer(answer, add_special_tokens=False)["input_ids"][:LONGEST],
        )
        for prompt, answer in rows.items()
    ]

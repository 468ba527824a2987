"""Hard labels and three forms of soft labels, on the AlpacaEval pairs with SmolLM2-135M-Instruct.

    python -m examples.alpaca_eval.soft_labels [--model FOLDER] [--pairs FILE] [--out FOLDER] [--seeds 0 1 2]

For each seed, a quarter of the prompts is held out. DPO is trained with the more likely label (``hard``), and with the
annotator's probability p in the conservative and the geometric form; iREPO regresses on p. Everything else is that of
``smollm2.yaml``. The implied probability sigmoid(beta margin) of each policy is compared with p on the held-out pairs:
cross-entropy less the entropy of p (nats), Brier score, and how often both are on the same side of one half. A finished
training is not repeated. ``results.md`` in the folder has the table.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

import seralign
from seralign.evaluation.judges import Comparison, make_judge
from seralign.evaluation.win_rates import decide
from seralign.intervals import mean_interval
from seralign.records import Prompt
from seralign.runs.results import Results
from seralign.tables import Column, interval, markdown, table

HERE = Path(__file__).parent
Row = dict[str, Any]
FORMS: dict[str, dict[str, Any]] = {
    "hard": {},
    "conservative": {"objective.soft_labels": "conservative"},
    "geometric": {"objective.soft_labels": "geometric"},
    "irepo": {"objective": {"name": "irepo", "beta": 0.1}},
}
FIGURES = ("excess cross-entropy", "Brier score", "same side")
BETA = 0.1


def split(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """The pairs to train on, and those of the held-out quarter of the prompts."""
    names = sorted({row["prompt_id"] for row in rows})
    held = set(random.Random(seed).sample(names, len(names) // 4))
    return [row for row in rows if row["prompt_id"] not in held], [row for row in rows if row["prompt_id"] in held]


def hardened(rows: Sequence[Row]) -> list[Row]:
    """The pairs with the more likely label; those with p = 1/2 have none."""
    return [row | {"p_b": float(row["p_b"] > 0.5)} for row in rows if row["p_b"] != 0.5]


def train(form: str, seed: int, rows: Sequence[Row], model: str, out: Path, overrides: dict[str, Any]) -> Path:
    """Train one form; returns the folder of its policy."""
    out.mkdir(parents=True, exist_ok=True)
    pairs = out / "pairs.jsonl"
    kept = hardened(rows) if form == "hard" else rows
    pairs.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    keys = {"policy.model": model, "data.pairs.path": str(pairs), "data.heldout_fraction": 0.0, "rounds": 1,
            "bootstrap": None, "evaluation.prompts": 0, "evaluation.token_pairs": 0, "seed": seed}  # fmt: skip
    config = seralign.load_config(HERE / "smollm2.yaml", keys | FORMS[form] | overrides | {"out": str(out / "run")})
    return seralign.train(config).policy


def measure(policy: Path, model: str, rows: Sequence[Row], results: Results) -> dict[str, float]:
    """The figures of a policy on held-out pairs."""
    options = {"policy": str(policy), "reference": model, "beta": BETA}
    judge = make_judge("implicit", options, None, results=results)
    asked = [
        Comparison(
            Prompt(row["prompt_id"], row["prompt"], (), json.dumps([{"role": "user", "content": row["prompt"]}])),
            row["response_b"],
            row["response_a"],
        )
        for row in rows
    ]
    verdicts = decide(judge, asked, results, str(policy))
    implied = np.array([verdict.first_better for verdict in verdicts], dtype=np.float64)
    return dict(zip(FIGURES, figures(implied, np.array([row["p_b"] for row in rows])), strict=True))


def figures(implied: np.ndarray, given: np.ndarray) -> tuple[float, float, float]:
    """Excess cross-entropy in nats, Brier score, and share on the same side of one half, of implied probabilities [N].

    Implied 0.5 and 0.8 with p 0.5 and 1: (0 - ln 0.8) / 2 = 0.1116, (0 + 0.04) / 2 = 0.02, and of the one pair with
    p other than 0.5, 1.
    """
    safe, p = np.clip(implied, 1e-12, 1 - 1e-12), np.clip(given, 1e-12, 1 - 1e-12)
    excess = p * np.log(p / safe) + (1 - p) * np.log((1 - p) / (1 - safe))
    sided = given != 0.5
    same = np.where(implied == 0.5, 0.5, (implied > 0.5) == (given > 0.5))
    return float(excess.mean()), float(((implied - given) ** 2).mean()), float(same[sided].mean())


def main() -> None:
    """Train all forms for all seeds, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/smollm2-model")
    parser.add_argument("--pairs", type=Path, default=Path("../shared/data/alpaca_eval_pairs.jsonl.gz"))
    parser.add_argument("--out", type=Path, default=Path("runs/alpaca_eval_soft_labels"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--length", type=int, default=160, help="longest prompt and response, in tokens")
    given = parser.parse_args()
    rows = fitting(read_rows(given.pairs), AutoTokenizer.from_pretrained(given.model), given.length)
    found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    results = Results(given.out / "judged.sqlite")
    for seed in given.seeds:
        trained_on, held_out = split(rows, seed)
        print(f"seed {seed}: {len(trained_on)} pairs to train on, {len(held_out)} held out", flush=True)
        for form in FORMS:
            folder = given.out / f"{form}-{seed}"
            policy = train(form, seed, trained_on, given.model, folder, {"data.max_length": given.length})
            found[form].append(measure(policy, given.model, held_out, results))
            print(f"{form}: {found[form][-1]}", flush=True)
    write(found, given.out / "results.md")


def read_rows(path: Path) -> list[Row]:
    """The rows of the pairs, .jsonl or .jsonl.gz."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return [json.loads(line) for line in text.splitlines()]


def fitting(rows: Sequence[Row], tokenizer: Any, length: int) -> list[Row]:
    """The pairs of which the run drops and cuts nothing: one set of pairs for all forms."""
    kept = []
    for row in rows:
        chat = [{"role": "user", "content": row["prompt"]}]
        prompt = len(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"])
        longest = max(len(tokenizer(row[name])["input_ids"]) for name in ("response_a", "response_b"))
        if prompt <= 64 and prompt + longest + 2 <= length and row["response_a"] != row["response_b"]:
            kept.append(row)
    return kept


def write(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The table: means over seeds with t intervals, and the difference to hard labels."""
    columns = [Column[str]("labels", lambda form: form)]
    for name in FIGURES:
        columns += [
            Column[str](name, lambda form, name=name: interval(mean_interval([one[name] for one in found[form]]), 3)),
            Column[str](
                f"{name}, less that of hard",
                lambda form, name=name: interval(
                    mean_interval(
                        [one[name] - hard[name] for one, hard in zip(found[form], found["hard"], strict=True)]
                    ),
                    3,
                ),
            ),
        ]
    text = markdown(table("", columns, list(FORMS)))
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

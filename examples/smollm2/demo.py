"""Align SmolLM2-135M-Instruct on following formats, judged by programs.

    make demo-llm                            # or QUICK=1, HALF=1; the same command resumes
    python -m examples.smollm2.demo --model runs/smollm2-model [--quick | --half] [--seed N] [--out FOLDER]

Steps: prompts are made; the model answers them; the checks make the files of a supervised start; the tuned model
answers again; the checks make pairs; DPO, SeRA as published, and (not in the quick size) the stable recipe are trained
on them; and all policies are judged on held-out prompts. Each step is skipped if it is finished.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from examples.smollm2 import candidates, cost, results
from examples.smollm2.prompts import tasks
from seralign.errors import ConfigError, SeralignError, StoreError
from seralign.tables import counted

HERE = Path(__file__).parent
PERPLEXITIES = "perplexities.json"
SIZE = "size.jsonl"


@dataclass(frozen=True)
class Size:
    """How much is done.

    Args:
        train_topics: Topics of the prompts that are trained on.
        heldout_topics: Topics of the held-out prompts.
        samples: Answers of the starting model to each prompt, with and without turns that show how; the tuned model
            gives twice as many.
        max_new_tokens: Longest answer.
        rounds: Rounds of SeRA, and epochs of DPO.
        pairs: Largest number of pairs of one prompt.
        batch_size: Prompts sampled together.
        texts: AlpacaEval answers for the perplexity.
        methods: What is trained on the pairs, in this order.
    """

    train_topics: int
    heldout_topics: int
    samples: int
    max_new_tokens: int
    rounds: int
    pairs: int = 2
    batch_size: int = 60
    texts: int = 32
    methods: tuple[str, ...] = ("dpo", "sera", "sera_stable")

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings of all runs."""
        return {
            "evaluation.max_new_tokens": self.max_new_tokens,
            "evaluation.batch_size": self.batch_size,
            "evaluation.prompts": 10_000,
        }

    @property
    def rounds_of(self) -> dict[str, dict[str, Any]]:
        """Settings of each method."""
        bootstrap = {"bootstrap.max_new_tokens": self.max_new_tokens, "bootstrap.batch_size": self.batch_size,
                     "bootstrap.prompts": 3 * self.train_topics, "rounds": self.rounds}  # fmt: skip
        return {"dpo": {"training.epochs": self.rounds}, "sera": bootstrap, "sera_stable": bootstrap}


SIZES = {
    "full": Size(train_topics=24, heldout_topics=10, samples=2, max_new_tokens=96, rounds=2),
    "half": Size(train_topics=12, heldout_topics=10, samples=2, max_new_tokens=64, rounds=2, pairs=1, texts=16),
    "quick": Size(train_topics=4, heldout_topics=2, samples=2, max_new_tokens=64, rounds=2, pairs=1, texts=4,
                  methods=("dpo", "sera")),
}  # fmt: skip


def run(model: Path, out: Path, size: Size, seed: int) -> results.Results:
    """Carry out all steps, or those that are left; returns the pass rates and what they cost."""
    write_size(out, size)
    train, heldout = tasks(size.train_topics, size.heldout_topics)
    candidates.write_rows(out / "heldout.jsonl", ({"prompt": task.messages, "kind": task.kind} for task in heldout))
    shown_prompts = [task.shown for task in train]  # an error for a kind without a rule, before anything is sampled
    how = candidates.Sampling(size.samples, 0.8, size.max_new_tokens, size.batch_size, seed)

    plain = candidates.sample(str(model), [task.messages for task in train], train, out / "plain.jsonl", how)
    shown = candidates.sample(str(model), shown_prompts, train, out / "shown.jsonl", how)
    demonstrated = candidates.demonstrations(train, plain, shown)
    _tell_sources(demonstrated)
    start = candidates.start_pairs([own + helped for own, helped in zip(plain, shown, strict=True)], demonstrated)
    candidates.write_rows(out / "start.jsonl", candidates.pair_rows(train, start))
    common = {"seed": seed, "policy.model": str(model), "data.heldout_prompts.path": str(out / "heldout.jsonl")}
    # The runs of the methods start from the result of the first: they share its answers and log-probabilities.
    common |= {"evaluation.store": str(out / "answers.sqlite"), "scoring.cache": str(out / "logps.sqlite")}
    _train("sft", out, common | size.overrides | {"data.pairs.path": str(out / "start.jsonl")})

    more = replace(how, samples=2 * how.samples)
    tuned = candidates.sample(str(out / "sft"), [task.messages for task in train], train, out / "tuned.jsonl", more)
    made = candidates.pairs(tuned, demonstrated, size.pairs)
    candidates.write_rows(out / "pairs.jsonl", candidates.pair_rows(train, made))
    common |= {"policy.adapter": str(out / "sft" / "result"), "data.pairs.path": str(out / "pairs.jsonl")}
    for method in size.methods:
        _train(method, out, common | size.overrides | size.rounds_of[method])

    runs = {method: out / method for method in ("sft", *size.methods)}
    candidates.command("report", *(str(folder) for folder in runs.values()), "--out", str(out / "report.html"))
    adapters = {"start": None} | {name: folder / "result" for name, folder in runs.items()}
    perplexities = cost.stored(out / PERPLEXITIES)
    if not perplexities:
        perplexities = cost.perplexities(model, adapters, size.texts)
        cost.store(perplexities, out / PERPLEXITIES)
    found = results.collect(runs, perplexities)
    results.write(found, results.collect_rounds(runs), out / "results.md")
    return found


def write_size(out: Path, size: Size) -> None:
    """Write the size into a folder of the demo.

    Raises:
        DataError: the folder has files of another size.
    """
    candidates.write_rows(out / SIZE, [asdict(size)])


def stored_size(out: Path) -> Size:
    """The size that the files of a folder were made with.

    Raises:
        StoreError: it is no folder of the demo.
    """
    file = out / SIZE
    if not file.is_file():
        raise StoreError(f"{out}: has no {SIZE}; give a folder that make demo-llm has written")
    size = json.loads(file.read_text(encoding="utf-8"))
    return Size(**size | {"methods": tuple(size["methods"])})


def _train(name: str, out: Path, overrides: dict[str, Any]) -> None:
    flags = [str(part) for key, value in overrides.items() for part in (f"--{key}", value)]
    candidates.command("train", str(HERE / f"{name}.yaml"), "--out", str(out / name), *flags)


def _tell_sources(found: list[candidates.Answer | None]) -> None:
    sources = [answer.source if answer is not None else "none" for answer in found]
    counts = {name: sources.count(name) for name in ("plain", "shown", "written", "none")}
    print(f"answers that pass, by their source: {counted(counts)}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo, and print its table."""
    parser = argparse.ArgumentParser(description="Align SmolLM2-135M-Instruct on following formats.")
    parser.add_argument("--model", type=Path, default=Path("runs/smollm2-model"), help="folder of the model")
    parser.set_defaults(size="full")
    sizes = parser.add_mutually_exclusive_group()
    less = "few prompts, shorter answers, no sera_stable: ten minutes"
    sizes.add_argument("--quick", dest="size", action="store_const", const="quick", help=less)
    less = "half of the training prompts, shorter answers"
    sizes.add_argument("--half", dest="size", action="store_const", const="half", help=less)
    parser.add_argument("--seed", type=int, default=0, help="of sampling and training; the prompts are always the same")
    parser.add_argument(
        "--out", type=Path, help="folder of all files (default: runs/smollm2, followed by the size and the seed)"
    )
    given = parser.parse_args(arguments)
    ending = ("" if given.size == "full" else f"-{given.size}") + (f"-seed{given.seed}" if given.seed else "")
    out = given.out or Path(f"runs/smollm2{ending}")
    try:
        if not given.model.is_dir():
            raise ConfigError(f"--model: there is no folder {given.model}; make demo-llm makes runs/smollm2-model")
        found = run(given.model, out, SIZES[given.size], given.seed)
    except SeralignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(results.table(found))
    print(f"tables: {out / 'results.md'}\nanswers before and after, of all policies: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

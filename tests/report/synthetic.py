"""A made-up run of any size for the report's tests and benchmark: everything that a page shows, no model needed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign.intervals import Interval
from seralign.report.answers import Answer, Answers
from seralign.report.contents import RunContents
from seralign.report.record import EvaluatedPolicy, RoundFigures, RunFigures, RunWarning, StageCost
from seralign.report.trainings import training_losses
from seralign.runs.calibration import CalibrationFigures, ReliabilityBin
from seralign.runs.data_figures import DataFigures, SourceFigures
from seralign.runs.figures import (
    BootstrapFigures,
    ComposeFigures,
    DecideFigures,
    EvaluateFigures,
    Metrics,
    NamedPolicy,
    ResultFigures,
    SampleFigures,
    SelectFigures,
    TrainFigures,
)

_SYLLABLES = (
    "ka",
    "mi",
    "to",
    "re",
    "sha",
    "lun",
    "ver",
    "no",
    "ti",
    "dra",
    "bel",
    "quo",
    "si",
    "an",
    "per",
    "mo",
    "cen",
)


def synthetic_run(
    pairs: int = 200,
    rounds: int = 3,
    *,
    name: str = "synthetic",
    words: int = 20,
    coloured: int = 40,
    seed: int = 0,
    total: int | None = None,
) -> RunContents:
    """A finished run: three quarters of its pairs are offline ones, the others were generated in rounds 2, 3, ....

    Args:
        pairs: Pairs of the run.
        rounds: Its rounds; with one there are no margins and no generated pairs.
        name: Its name.
        words: Words of a response, in the mean.
        coloured: Pairs with token colours.
        seed: Of everything random.
        total: Pairs that the run says to have, where the table is to hold a part.
    """
    rng = np.random.default_rng(seed)
    table = _pairs(rng, pairs, rounds, words, coloured)
    return RunContents(
        name=name,
        config=_config(rounds, name),
        figures=_figures(table, rounds, name),
        training=_trainings(rounds),
        pairs=table,
        pairs_total=total or len(table),
        tables=("data/pairs.arrow", "round-2/select/selection.parquet"),
        answers=_answers(rounds),
    )


def _answers(rounds: int) -> Answers:
    """Twelve prompts; the scores of round r's answers are r times (prompt - 4), so that prompts 0 to 3 lose."""
    policies = ("sft", *(f"round {index}" for index in range(1, rounds + 1)))
    answers = tuple(
        tuple(
            Answer(f"{name} says {at}", 3 + at, (at + place) % 5 != 4, place * (at - 4.0))
            for place, name in enumerate(policies)
        )
        for at in range(12)
    )
    return Answers(policies, rounds, 12, tuple(f"Question {at}?" for at in range(12)), answers, scored=True)


def with_texts(run: RunContents, **texts: str) -> RunContents:
    """The same run with other texts (``prompt``, ``chosen``, ...) in its first pair, which has no token colours."""
    assert run.pairs is not None
    rows = run.pairs.to_pylist()
    rows[0] |= texts | {
        name: None for name in rows[0] if "_tokens" in name or "_ratios" in name or name == "tokens_round"
    }
    changed = copy.copy(run)
    object.__setattr__(changed, "pairs", pa.Table.from_pylist(rows, run.pairs.schema))
    return changed


def with_columns(run: RunContents, **columns: Sequence[str | None]) -> RunContents:
    """The same run with columns of the source that its pairs carry along."""
    assert run.pairs is not None
    pairs = run.pairs
    for name, values in columns.items():
        pairs = pairs.append_column(f"carried.{name}", pa.array(values, pa.string()))
    changed = copy.copy(run)
    object.__setattr__(changed, "pairs", pairs)
    return changed


def _pairs(rng: np.random.Generator, count: int, rounds: int, words: int, coloured: int) -> pa.Table:
    """Margins grow with the rounds and lean on length, as those of real runs do."""
    vocabulary = ["".join(rng.choice(_SYLLABLES, rng.integers(1, 4))) for _ in range(6000)]
    offline = count if rounds < 2 else count - count // 4
    made_in = np.zeros(count, int)
    made_in[offline:] = 2 + np.arange(count - offline) * max(rounds - 1, 1) // max(count - offline, 1)
    lengths = {side: rng.poisson(words, count) + 1 for side in ("chosen", "rejected")}
    responses = {side: _words(rng, vocabulary, lengths[side]) for side in lengths}
    few = np.zeros(count, bool)
    few[np.linspace(0, count - 1, min(coloured, count)).astype(int)] = rounds > 1
    columns: dict[str, Any] = {
        "example_id": [f"{value:016x}" for value in rng.integers(0, 2**63, count)],
        "origin": ["offline" if at == 0 else f"generated:{at}" for at in made_in],
        "p": rng.choice([1.0, 1.0, 0.9, 0.75, 0.5], count),
        "prompt": pc.binary_join(_words(rng, vocabulary, rng.poisson(12, count) + 3), ""),  # pyright: ignore
    }
    columns |= {side: pc.binary_join(tokens, "") for side, tokens in responses.items()}  # pyright: ignore
    columns |= {f"{side}_length": pa.array(lengths[side], pa.int32()) for side in lengths}
    columns["tokens_round"] = pa.array(np.full(count, rounds), pa.int32(), mask=~few)
    for side, tokens in responses.items():
        columns[f"{side}_tokens"] = pc.if_else(pa.array(few), tokens, None)  # pyright: ignore
        ratios = rng.normal(0.1 if side == "chosen" else -0.2, 0.6, int(lengths[side].sum())).astype(np.float32)
        lists = pa.ListArray.from_arrays(tokens.offsets, pa.array(ratios))
        columns[f"{side}_ratios"] = pc.if_else(pa.array(few), lists, None)  # pyright: ignore
    return pa.table(columns | _reviews(rng, made_in, lengths["chosen"] - lengths["rejected"], rounds))


def _reviews(rng: np.random.Generator, made_in: np.ndarray, longer: np.ndarray, rounds: int) -> dict[str, Any]:
    base = rng.normal(0.4, 1.0, len(made_in))
    margins, kept = [], []
    for index in range(2, rounds + 1):
        in_play = (made_in == 0) | (made_in == index)
        margin = index * base + 0.05 * index * longer + rng.normal(0, 0.6, len(made_in))
        cut = np.quantile(margin, 0.3)
        reason = np.where(margin >= cut, "kept", "below the top 70%")
        margins.append(np.where(in_play, margin, np.nan))
        kept.append(np.where(in_play, reason, None))
    offsets = pa.array(np.arange(len(made_in) + 1) * len(margins), pa.int32())
    flat = np.stack(margins, 1).reshape(-1) if margins else np.zeros(0)
    reasons = np.stack(kept, 1).reshape(-1) if kept else []
    disagreement = np.abs(rng.normal(0, 0.8, len(made_in)))
    return {
        "margins": pa.ListArray.from_arrays(offsets, pa.array(flat, pa.float64(), from_pandas=True)),
        "kept": pa.ListArray.from_arrays(offsets, pa.array(reasons, pa.string())),
        "disagreement": pa.array(disagreement, pa.float64(), mask=np.full(len(made_in), rounds < 3)),
    }


def _words(rng: np.random.Generator, vocabulary: list[str], lengths: np.ndarray) -> pa.ListArray:
    """Rows of words, often the same ones, as in a language: Zipf's law."""
    places = np.minimum(rng.zipf(1.25, int(lengths.sum())) - 1, len(vocabulary) - 1)
    words = pa.array([f" {word}" for word in vocabulary]).take(pa.array(places))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), words)


def _trainings(rounds: int) -> dict[str, list[Metrics]]:
    rng = np.random.default_rng(7)
    return {f"round {index}": _training(rng, index) for index in range(1, rounds + 1)}


def _training(rng: np.random.Generator, index: int) -> list[Metrics]:
    rows: list[dict[str, float | None]] = []
    for step in range(0, 101, 10):
        gap = index * step / 100
        if step in (0, 100):
            rewards = {"eval_rewards/chosen": -0.4 * gap, "eval_rewards/rejected": -0.9 * gap, "eval_loss": 0.69}
            rows.append(rewards | {"eval_rewards/accuracies": 0.5 + step / 500, "step": step, "epoch": step / 100})
        noise = float(rng.normal(0, 0.02))
        rewards = {"rewards/chosen": 0.2 * gap + noise, "rewards/rejected": -0.8 * gap + noise}
        rows.append(rewards | {"loss": 0.69 - 0.1 * gap, "rewards/accuracies": 0.5 + gap / 8, "step": step})
        rows[-1]["learning_rate"] = 1e-5 * (1 - step / 100)
    return [*rows]


def _figures(table: pa.Table, rounds: int, name: str) -> RunFigures:
    offline = pc.sum(pc.equal(table["origin"], "offline")).as_py()  # pyright: ignore
    source = SourceFigures(
        "pairs.jsonl", offline + 70, offline + 50, {"response too long": 12, "tie": 8}, {"swapped": 3}, {}, 0.1, (), ()
    )
    stages = ["data", "policies", "initial/evaluate"]
    for index in range(1, rounds + 1):
        reviewed = ["score", "select", "sample", "bootstrap", "compose"] if index > 1 else []
        stages += [f"round-{index}/{stage}" for stage in [*reviewed, "train", "evaluate", "decide"]]
    return RunFigures(
        run=f"runs/{name}",
        objective="dpo",
        data=DataFigures(offline, 50, 0, {"pairs": source}),
        reference=NamedPolicy("reference", "a/model", "0123456789abcdef" * 4),
        policies=tuple(_policy(index) for index in range(rounds + 1)),
        rounds=tuple(_round(index, offline, len(table) - offline, rounds) for index in range(1, rounds + 1)),
        stopped="all rounds done",
        result=ResultFigures(f"round {rounds}", "fedcba9876543210" * 4, "all rounds done", {}, "float32", None, None),
        trainings=training_losses(_trainings(rounds), "dpo"),
        stages=tuple(
            StageCost(stage, 2.0 + 7 * (place % 5), 500.0 + 40 * place)
            for place, stage in enumerate([*stages, "result"])
        ),
        notes=("No held-out pairs were looked at twice.",),
        warnings=(
            RunWarning(
                "length", f"round {rounds}", 1.8, 1.3,
                f"Answers of round {rounds} are 1.8 times as long as the starting policy's.",
                "Try objective.name: simpo.",
            ),
        ),
    )  # fmt: skip


def _policy(index: int) -> EvaluatedPolicy:
    def interval(mean: float, half: float) -> Interval:
        return Interval(mean, mean - half, mean + half, 200)

    # The surer of the two bins is too sure.
    bins = (
        ReliabilityBin(0.5, 0.6, 0.55, interval(0.56, 0.05)),
        ReliabilityBin(0.9, 1.0, 0.95, interval(0.8, 0.1)),
    )
    calibration = CalibrationFigures(interval(0.2, 0.01), 0.08, bins)
    figures = EvaluateFigures(
        name=f"round {index}" if index else "sft",
        n=200,
        score=interval(0.1 * index, 0.05),
        win_rates={"sft": interval(0.5 + 0.06 * index, 0.03)} if index else {},
        kl=interval(1.5 * index, 0.2 * index),
        length=20.0 + 4 * index,
        distinct_2=0.8 - 0.03 * index,
        self_bleu=0.2 + 0.02 * index,
        repetition=0.01 * index,
        unfinished=0.02 * index,
        heldout_accuracy=interval(0.5 + 0.05 * index, 0.08),
        heldout_margin=0.4 * index,
        margin_length_correlation=0.1 * index if index else None,
        calibration=calibration if index else None,
    )
    return EvaluatedPolicy(f"round-{index}" if index else "initial", figures)


def _round(index: int, offline: int, made: int, rounds: int) -> RoundFigures:
    train = TrainFigures(100, offline, {"rewards/accuracies": 0.6 + 0.1 * index}, {}, {}, "ab" * 32)
    decide = DecideFigures(index == rounds, "all rounds done" if index == rounds else "continue", index, None)
    found = RoundFigures(index, train=train, evaluate=_policy(index).figures, decide=decide)
    if index == 1:
        return found
    new = made // (rounds - 1)
    return replace(
        found,
        select=SelectFigures(offline, int(0.7 * offline), 0.4, 0.9, 0.1, 0.0, 0.15 * index, None, 1.0, 1.5, 0.2),
        sample=SampleFigures("round 1", new, 4 * new, 21.0, 0.03, 0.7, 0),
        bootstrap=BootstrapFigures(new, int(0.6 * new), {}, 1.0, 0.0, 0.5, 0.55, 0.2, 0.3),
        compose=ComposeFigures(int(0.7 * offline), int(0.6 * new), 0.2, 0.3),
    )


def _config(rounds: int, name: str) -> dict[str, Any]:
    return {
        "seed": 0,
        "rounds": rounds,
        "policy": {"model": "a/model", "adapter": None, "lora": None},
        "reference": {"model": None, "update": "never"},
        "data": {"pairs": {"path": f"{name}.jsonl"}, "max_length": 512},
        "sft": None,
        "objective": {"name": "dpo", "weight": 1.0, "beta": 0.1},
        "training": {"learning_rate": 1e-5, "epochs": 1.0, "max_steps": None, "batch_size": 16},
        "scoring": {"ensemble_weight": 0.3, "length_correction": "none"},
        "selection": {"rule": "top", "fraction": 0.7, "threshold": None},
        "bootstrap": {
            "method": "sera", "sample_from": "policy", "samples": 4, "temperature": 0.7, "shares": [0.3, 0.5, 0.6, 0.7],
            "selection": {"rule": "top", "fraction": 0.6, "threshold": None},
        },
        "evaluation": {"prompts": 200},
        "stop": {"metric": "win_rate", "min_gain": 0.0, "patience": 1},
        "world": None,
    }  # fmt: skip

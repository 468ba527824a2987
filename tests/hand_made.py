"""Runs made by hand: stages written straight into a store, without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa

from seralign.config import load_config, to_dict
from seralign.data.table import write_examples, write_prompts
from seralign.intervals import Interval
from seralign.records import OFFLINE, Example, Pair, Prompt, Response
from seralign.runs import Run, open_run
from seralign.runs.data_figures import DataFigures, SourceFigures
from seralign.runs.figures import (
    BasePolicy,
    BootstrapFigures,
    ComposeFigures,
    DecideFigures,
    EvaluateFigures,
    NamedPolicy,
    PoliciesFigures,
    ResultFigures,
    SampleFigures,
    ScoreFigures,
    SelectFigures,
    TokensFigures,
    TrainFigures,
)
from seralign.runs.files import write_table
from seralign.runs.typed import to_json

Made = TypeVar("Made")

CONFIG: dict[str, Any] = {"rounds": 3, "policy.model": "m", "data.pairs.path": "pairs.jsonl"}


def new_run(root: Path, **overrides: Any) -> Run:
    """A run that has only begun."""
    return open_run(root, to_dict(load_config(None, CONFIG | overrides | {"out": str(root)})), {"seralign": "0"})


def pair(name: str, origin: str = OFFLINE, chosen: str = "good", rejected: str = "bad") -> Example:
    """A pair with as many tokens as its responses have letters."""
    responses = tuple(Response(text, tuple(range(len(text)))) for text in (chosen, rejected))
    return Example(name, Prompt(f"prompt of {name}", f"Ask {name}", (1, 2)), responses, Pair(0.75), origin=origin)


def figures_of(kind: type[Made], **given: Any) -> Made:
    """A dataclass of figures; what is not given is 0, empty, or None where the field may be."""
    hints = get_type_hints(kind)
    empty = {int: 0, float: 0.0, str: "", bool: False}
    for field in fields(kind):  # pyright: ignore
        hint = hints[field.name]
        if field.name not in given and field.default is MISSING and field.default_factory is MISSING:
            given[field.name] = None if type(None) in get_args(hint) else empty.get(hint, (get_origin(hint) or tuple)())
    return kind(**given)


def add_stage(run: Run, name: str, figures: Any, tables: dict[str, Any] | None = None) -> None:
    """A finished stage with figures, a dataclass, and Parquet tables (columns by file)."""
    folder = run.begin(name, {})
    for file, columns in (tables or {}).items():
        write_table(folder / file, columns)
    run.commit(name, {}, to_json(figures), 1.0)


def add_data(run: Run, pairs: Iterable[Example], heldout: int = 10) -> None:
    """The data stage."""
    folder = run.begin("data", {})
    count = write_examples(folder / "pairs.arrow", pairs)
    write_examples(folder / "heldout.arrow", [])
    write_prompts(folder / "prompts.arrow", [])
    source = figures_of(SourceFigures, source="pairs.jsonl", read=count + 1, kept=count, dropped={"tie": 1}, soft=1.0)
    run.commit("data", {}, to_json(DataFigures(count, heldout, 0, {"pairs": source})), 1.0)


def add_policy(run: Run, stage: str, name: str, **figures: Any) -> None:
    """An evaluation; two answers of 10 tokens unless told otherwise."""
    given = {"n": 2, "length": 10.0, "distinct_2": 0.5, "repetition": 0.0, "unfinished": 0.0} | figures
    rows = [f"{at}" for at in range(given["n"])]
    columns = {
        "prompt_id": rows, "prompt": [f"prompt {at}" for at in rows], "text": [f"{name} to {at}" for at in rows],
        "ids": pa.array([[1, 2]] * len(rows), pa.list_(pa.int32())), "finished": [True] * len(rows),
    }  # fmt: skip
    if given.get("score") is not None:
        columns["score"] = [given["score"].mean] * len(rows)
    add_stage(run, f"{stage}/evaluate", EvaluateFigures(name=name, **given), {"samples.parquet": columns})


def add_training(run: Run, stage: str, rows: Sequence[dict[str, float]]) -> None:
    """A training with these lines of metrics."""
    folder = run.begin(stage, {})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    figures = figures_of(TrainFigures, steps=5, pairs=4, train=dict(rows[-1]) if rows else {})
    run.commit(stage, {}, to_json(figures), 1.0)


def selection(margins: dict[str, float], kept: Iterable[str], apart: dict[str, float] | None = None) -> dict[str, Any]:
    """Columns of a selection: pairs by margin, those that are kept, |h1 - h2|."""
    reasons = ["kept" if name in set(kept) else "below the top 50%" for name in margins]
    return {
        "example_id": list(margins),
        "margin": list(margins.values()),
        "rank": list(range(len(margins))),
        "kept": [reason == "kept" for reason in reasons],
        "reason": reasons,
        "disagreement": pa.array([(apart or {}).get(name) for name in margins], pa.float64()),
    }


def add_review(run: Run, index: int, columns: dict[str, Any], **figures: Any) -> None:
    """The selection of a round's offline pairs."""
    given = {"pairs": len(columns["example_id"]), "kept": int(sum(columns["kept"])), "margin_mean_kept": 1.0} | figures
    add_stage(run, f"round-{index}/score", figures_of(ScoreFigures, accuracy=0.6, margin_mean=0.5))
    add_stage(run, f"round-{index}/select", figures_of(SelectFigures, **given), {"selection.parquet": columns})


def add_generated(run: Run, index: int, pairs: Sequence[Example], columns: dict[str, Any], **figures: Any) -> None:
    """The sampling and pairing of a round."""
    add_stage(run, f"round-{index}/sample", figures_of(SampleFigures, responses=8, length=9.5, distinct_2=0.4))
    name = f"round-{index}/bootstrap"
    folder = run.begin(name, {})
    write_examples(folder / "generated.arrow", pairs)
    write_table(folder / "selection.parquet", columns)
    given = {"pairs": len(pairs), "kept": int(sum(columns["kept"])), "left_out": {}, "margin_mean": 2.0}
    run.commit(name, {}, to_json(figures_of(BootstrapFigures, **(given | figures))), 1.0)


def add_mix(run: Run, index: int, used: dict[str, bool], share: float = 0.3, wanted: float = 0.3) -> None:
    """What a round trains on."""
    origins = [f"generated:{index}" if name.startswith("round") else OFFLINE for name in used]
    columns = {"example_id": list(used), "origin": origins, "margin": [1.0] * len(used), "used": list(used.values())}
    figures = ComposeFigures(2, 1, share, wanted)
    add_stage(run, f"round-{index}/compose", figures, {"training.parquet": columns})


def add_tokens(run: Run, index: int, names: Sequence[str], ratio: float) -> None:
    """Token columns: two tokens a response, all with the same ratio."""
    texts = pa.array([[["g", "ood"]] * 2] * len(names), pa.list_(pa.list_(pa.string())))
    ratios = pa.array([[[ratio, ratio]] * 2] * len(names), pa.list_(pa.list_(pa.float32())))
    columns = {"example_id": list(names), "tokens": texts, "ratios": ratios}
    add_stage(run, f"round-{index}/tokens", TokensFigures(len(names)), {"tokens.parquet": columns})


def interval(mean: float, half: float = 0.01) -> Interval:
    """A mean with its interval."""
    return Interval(mean, mean - half, mean + half, 100)


def whole_run(root: Path) -> Run:
    """Four offline pairs; three rounds, of which two made a pair each; the last round coloured two pairs.

    Round 2 keeps ``a`` and ``b``, and its mix leaves ``b`` out. Round 3 keeps ``b`` and ``c``.
    """
    run = new_run(root)
    add_data(run, [pair(name) for name in "abcd"])
    named = NamedPolicy("reference", "m", "f" * 64)
    add_stage(run, "policies", PoliciesFigures(BasePolicy("initial", "m", "e" * 64, None, "float32"), named, named))
    add_policy(run, "initial", "initial", score=interval(0.0))
    for index in (1, 2, 3):
        if index == 2:
            add_review(run, 2, selection({"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, "ab"))
            add_generated(run, 2, [pair("round2-x", "generated:2")], selection({"round2-x": 5.0}, ["round2-x"]))
            add_mix(run, 2, {"a": True, "b": False, "round2-x": True})
        if index == 3:
            margins = {"a": 1.0, "b": 5.0, "c": 4.0, "d": 0.5}
            add_review(run, 3, selection(margins, "bc", {name: abs(value) / 4 for name, value in margins.items()}))
            made = selection({"round3-y": 7.0}, ["round3-y"], {"round3-y": 0.5})
            add_generated(run, 3, [pair("round3-y", "generated:3", "better")], made)
            add_mix(run, 3, {"b": True, "c": True, "round3-y": True}, 0.33, 0.5)
        add_training(run, f"round-{index}/train", [{"loss": 0.7, "step": 1}, {"loss": 0.6, "step": 2}])
        add_policy(run, f"round-{index}", f"round {index}", score=interval(0.1 * index), heldout_accuracy=interval(0.6))
        add_tokens(run, index, {1: ["a", "d"], 2: ["a", "round2-x"], 3: ["a", "round3-y"]}[index], 0.5 * index)
        decision = DecideFigures(index == 3, "continue" if index < 3 else "all rounds done", index, None)
        add_stage(run, f"round-{index}/decide", decision)
    add_stage(run, "result", figures_of(ResultFigures, policy="round 3", digest="d" * 64))
    return run

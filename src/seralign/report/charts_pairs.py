"""The charts of the pairs: their margins by round, and their correlation with length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seralign.intervals import correlation
from seralign.report.bins import TAIL, bin_counts, bin_edges, outermost
from seralign.report.charts import (
    POINT,
    Chart,
    Key,
    Over,
    Panel,
    axis,
    chart,
    colours,
    layer,
    level,
    share_format,
    spread,
    thinned,
)
from seralign.report.contents import RunContents
from seralign.report.reviews import Review, reviews
from seralign.tables import Column, Table, number, percent, signed, table

POINTS = 500
_TRAINED, _SELECTED, _DROPPED = "trained on", "selected", "dropped"
_NONE = "No pair has been scored: reviewing begins with round 2."


def pair_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The charts of the pairs of one run, or of several over each other."""
    found = [review for run in runs for review in reviews(run)]
    part = _sampled(over, runs)
    return [_margins(over, found, part), _lengths(over, found, part), _correlations(over, runs, found, part)]


def _sampled(over: Over, runs: Sequence[RunContents]) -> str:
    """Which runs have only a sample of their pairs in the charts, as part of a sentence; empty if none has."""
    parts = [
        f"{len(run.pairs):,} of {run.pairs_total:,} pairs" + (f" of {run.name}" if over.several else "")
        for run in runs
        if run.pairs is not None and len(run.pairs) < run.pairs_total
    ]
    return f"a sample of {' and of '.join(parts)}" if parts else ""


def _margins(over: Over, found: list[Review], part: str) -> Chart:
    title = "Margins, round by round"
    if not found:
        return Chart("margins", title, _NONE)
    edges = bin_edges(np.concatenate([review.margin for review in found]))
    reading = (
        "The margin of a pair is the implicit reward of the chosen response minus that of the rejected one. Left of 0 "
        "the policy disagrees with the label. The outermost bars include everything beyond them."
    )
    if part:
        reading += f" The chart and its table are of {part}."
    most = max(int(bin_counts(review.margin, edges).max()) for review in found)
    panels, kept = [], _kept(found)
    for index in sorted({review.index for review in found}):
        some = [review for review in found if review.index == index]
        spec = _outlines(over, some, edges) if over.several else _bars(over, some, edges, most)
        panels.append(Panel(_round(over, some), spec))
    if over.several:
        _, legend = over.series(_lines(kept))
    else:
        keys = {f"{kept}, offline": "kept", f"{kept}, generated": "made", _DROPPED: "dropped"}
        legend = [Key(name, colour, "area") for name, colour in keys.items()]
    columns = (
        Column[Review]("round", lambda review: over.label(review.run, _row(review))),
        Column[Review]("scored", lambda review: number(len(review.margin), 0)),
        Column[Review](kept, lambda review: number(int(review.kept.sum()), 0)),
        Column[Review]("of them generated", lambda review: number(int((review.kept & review.generated).sum()), 0)),
        Column[Review](f"median {kept}", lambda review: number(_median(review.margin[review.kept]), 2)),
        Column[Review]("median dropped", lambda review: number(_median(review.margin[~review.kept]), 2)),
        Column[Review]("below 0", lambda review: percent(float((review.margin < 0).mean()))),
    )
    figures = table(_caption("Margins in nats", part), columns, found)
    return Chart("margins", title, reading, tuple(panels), tuple(legend), figures)


def _bars(over: Over, found: list[Review], edges: np.ndarray, most: int) -> dict[str, Any]:
    values, kept = [], _kept(found)
    names = {f"{kept}, offline": "kept", f"{kept}, generated": "made", _DROPPED: "dropped"}
    for review in found:
        below = np.zeros(len(edges) - 1, dtype=int)
        classes = (review.kept & ~review.generated, review.kept & review.generated, ~review.kept)
        for name, members in zip(names, classes, strict=True):
            counts = bin_counts(review.margin[members], edges)
            values += [
                {"low": float(edges[place]), "high": float(edges[place + 1]), "series": name}
                | {"n": int(counts[place]), "below": int(below[place]), "above": int(below[place] + counts[place])}
                for place in np.flatnonzero(counts)
            ]
            below += counts
    channels = {
        "x": axis("low", "margin (nats)", outermost(edges)),
        "x2": {"field": "high"},
        "y": axis("below", "pairs", (0, 1.05 * most)),
        "y2": {"field": "above"},
        "color": colours("series", names),
        "tooltip": over.tips(series="pairs", n=("how many", ",d"), low=("margin from", ".2f"), high=("to", ".2f")),
    }
    return chart(values, [layer("rect", {"stroke": "var(--paper)", "strokeWidth": 0.75}, channels), level(0, "x")])


def _lines(kept: str) -> dict[str, Key]:
    return {kept: Key(kept, "kept", "line"), "scored": Key("all scored", "muted", "dashed")}


def _outlines(over: Over, found: list[Review], edges: np.ndarray) -> dict[str, Any]:
    values, kept = [], _kept(found)
    for review in found:
        for name, members in ((kept, review.kept), ("scored", np.ones_like(review.kept))):
            counts = bin_counts(review.margin[members], edges)
            values += [
                {"low": float(low), "share": round(float(count) / max(counts.sum(), 1), 5)}
                | {"run": review.run, "series": name}
                for low, count in zip(edges, [*counts, 0], strict=True)
            ]
    shown, _ = over.series(_lines(kept))
    top = max(value["share"] for value in values)
    channels = {
        "x": axis("low", "margin (nats)", outermost(edges)),
        "y": axis("share", "share of pairs", form=share_format(0.0, top), zero=True),
        "tooltip": over.tips(series="pairs", low=("margin from", ".2f"), share=("share", ".1%")),
    }
    lines = layer("line", {"interpolate": "step-after", "strokeWidth": 1.75}, channels | shown)
    return chart(values, [lines, level(0, "x")])


def _lengths(over: Over, found: list[Review], part: str) -> Chart:
    title = "Margin against length"
    if not found:
        return Chart("lengths", title, _NONE)
    across = _range(np.concatenate([review.longer for review in found]))
    up = _range(np.concatenate([review.margin for review in found]))
    kept = _kept(found)
    of = {kept: "kept", _DROPPED: "dropped"}
    shapes = {kept: "dot", _DROPPED: "triangle"}
    legend = [Key(name, "muted" if over.several else of[name], shape) for name, shape in shapes.items()]
    legend = [*over.legend("dot"), *legend] if over.several else legend
    panels = []
    for index in sorted({review.index for review in found}):
        values, some = [], [review for review in found if review.index == index]
        for review in some:
            inside = (np.abs(review.margin - sum(up) / 2) * 2 <= up[1] - up[0]) & (
                np.abs(review.longer - sum(across) / 2) * 2 <= across[1] - across[0]
            )
            values += [
                {"x": int(review.longer[place]), "y": round(float(review.margin[place]), 3), "run": review.run}
                | {"series": kept if review.kept[place] else _DROPPED}
                for place in thinned(np.flatnonzero(inside).tolist(), POINTS // len(over.names))
            ]
        shape = {"domain": list(of), "range": ["circle", "triangle-down"]}
        channels = {
            "x": axis("x", "chosen longer by (tokens)", across),
            "y": axis("y", "margin (nats)", up),
            "color": colours("run", over.runs) if over.several else colours("series", of),
            "shape": {"field": "series", "type": "nominal", "scale": shape, "legend": None},
            "tooltip": over.tips(series="pair", x=("longer by", "+d"), y=("margin", ".2f")),
        }
        points = layer("point", {"size": 14, "opacity": 0.6, "filled": True}, channels)
        panels.append(Panel(_round(over, some), chart(values, [level(0), level(0, "x"), points], 210)))
    columns = (
        Column[Review]("round", lambda review: over.label(review.run, _row(review))),
        Column[Review]("correlation, all", lambda review: signed(correlation(review.longer, review.margin), 2)),
        Column[Review](
            f"correlation, {kept}",
            lambda review: signed(correlation(review.longer[review.kept], review.margin[review.kept]), 2),
        ),
        Column[Review]("longer by, all", lambda review: signed(_mean(review.longer), 1)),
        Column[Review](f"longer by, {kept}", lambda review: signed(_mean(review.longer[review.kept]), 1)),
    )
    reading = (
        "Each point is a pair; if there are many, a sample is shown. If the points rise to the right, the policy "
        "prefers longer responses, and the round selects them."
    )
    if part:
        reading += f" The table is of {part}."
    figures = table(_caption("Margin and length difference of the scored pairs", part), columns, found)
    return Chart("lengths", title, reading, tuple(panels), tuple(legend), figures)


def _correlations(over: Over, runs: Sequence[RunContents], found: list[Review], part: str) -> Chart:
    title = "How far length explains the margin"
    keys = {
        "scored": Key("before: offline pairs, as scored", "scored", "line"),
        _TRAINED: Key(f"of them {_kept(found)}", "kept", "line"),
        "held out": Key("after: held-out pairs", "heldout", "dashed"),
    }
    if over.several:
        del keys[_TRAINED]
    values, rows = [], []
    for run in runs:
        offline = {review.index: review for review in found if review.run == run.name}
        for entry in run.figures.rounds:
            index = entry.index
            scored = None if entry.select is None else entry.select.margin_length_correlation
            figures = {"scored": scored, _TRAINED: None}
            if index in offline:
                kept = offline[index].kept & ~offline[index].generated
                figures[_TRAINED] = correlation(offline[index].longer[kept], offline[index].margin[kept])
            figures["held out"] = None if entry.evaluate is None else entry.evaluate.margin_length_correlation
            values += [
                {"round": index, "r": round(value, 4), "series": name, "run": run.name}
                for name, value in figures.items()
                if value is not None and name in keys
            ]
            made = None if entry.bootstrap is None else entry.bootstrap.margin_length_correlation
            cells = (signed(value, 2) for value in (*figures.values(), made))
            name = _row(offline[index]) if index in offline else f"round {index}"
            rows.append((over.label(run.name, name), *cells))
    if not values:
        return Chart("correlations", title, "No pair has been scored, and no round evaluated on held-out pairs.")
    ticks = sorted({value["round"] for value in values})
    shown, legend = over.series(keys)
    across = axis("round", "round", (ticks[0] - 0.2, ticks[-1] + 0.2), "d")
    across["axis"] |= {"values": ticks, "grid": False}
    channels = {
        "x": across,
        "y": axis("r", "correlation", (-1, 1)),
        "tooltip": over.tips(series="pairs", round="round", r=("r", "+.2f")),
    }
    lines = layer("line", {"point": POINT, "strokeWidth": 1.75}, channels | shown)
    reading = (
        "Correlation of a pair's margin with how much longer its chosen response is: of the offline pairs as the round "
        "scored them, and of held-out pairs after its training. Length is a bad reason to prefer a response."
    )
    if part:
        reading += f" The figures of those {_kept(found)} are of {part}."
    columns = ("round", "offline, as scored", f"of them {_kept(found)}", "held out, after", "generated")
    figures = Table("Correlation of margin and length difference", columns, tuple(rows))
    panels = (Panel("", chart(values, [level(0), lines], 210)),)
    return Chart("correlations", title, reading, panels, tuple(legend), figures, half=True)


def _kept(found: list[Review]) -> str:
    """What the pairs that a round kept are called: ``selected`` until the round is trained, then ``trained on``."""
    words = {_TRAINED if review.trained else _SELECTED for review in found}
    return " or ".join(sorted(words, reverse=True)) or _TRAINED


def _row(review: Review) -> str:
    return f"round {review.index}" + ("" if review.trained else ", not trained: selected")


def _round(over: Over, found: list[Review]) -> str:
    """The title of the panel of one round."""
    waiting = [review.run for review in found if not review.trained]
    if not waiting:
        return f"Round {found[0].index}"
    return f"Round {found[0].index}, not trained" + (f" in {', '.join(waiting)}" if over.several else "")


def _caption(of: str, part: str) -> str:
    return f"{of}, of {part}" if part else of


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    return spread([float(low), float(high)])


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None

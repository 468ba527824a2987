"""The pictures of the pairs: their margins by round, and what length has to do with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from seralign.report.charts import POINT, Key, Over, Panel, Picture, axis, chart, colours, layer, level, spread, thinned
from seralign.report.contents import RunContents
from seralign.report.reviews import Review, correlation, reviews
from seralign.tables import Table, number, percent, signed

BINS = 36
POINTS = 500
# Share of the pairs at each end that is moved to the edge, so that a few far ones do not squeeze all others.
TAIL = 0.002

_CLASSES = {"trained on, offline": "kept", "trained on, generated": "made", "dropped": "dropped"}
_TRAINED = "trained on"
_NONE = "No pair has been scored: reviewing begins with round 2."


def pair_pictures(runs: Sequence[RunContents], over: Over) -> list[Picture]:
    """The pictures of the pairs of one run, or of several over each other."""
    found = [review for run in runs for review in reviews(run)]
    part = _sampled(over, runs)
    return [_margins(over, found, part), _lengths(over, found, part), _correlations(over, runs, found, part)]


def _sampled(over: Over, runs: Sequence[RunContents]) -> str:
    """Of which runs the pictures have a sample of the pairs only, for a sentence; empty where of none."""
    parts = [
        f"{len(run.pairs):,} of {run.pairs_total:,} pairs" + (f" of {run.name}" if over.several else "")
        for run in runs
        if run.pairs is not None and len(run.pairs) < run.pairs_total
    ]
    return f"a sample of {' and of '.join(parts)}" if parts else ""


def _margins(over: Over, found: list[Review], part: str) -> Picture:
    title = "Margins, round by round"
    if not found:
        return Picture("margins", title, _NONE)
    edges = _edges(np.concatenate([review.margin for review in found]))
    reading = (
        "A pair's margin is how much more the policy raised the chosen response than the rejected one, against the "
        "reference. Left of 0 it disagrees with the label. The outermost places hold all that is further out."
    )
    if part:
        reading += f" The picture and its table are of {part}."
    draw = _outlines if over.several else _bars
    most = max(int(_counts(review.margin, edges).max()) for review in found)
    panels, legend = [], []
    for index in sorted({review.index for review in found}):
        spec, legend = draw(over, [review for review in found if review.index == index], edges, most)
        panels.append(Panel(f"Round {index}", spec))
    rows = tuple(
        (
            over.label(review.run, f"round {review.index}"),
            f"{len(review.margin):,}",
            f"{int(review.kept.sum()):,}",
            f"{int((review.kept & review.generated).sum()):,}",
            number(_median(review.margin[review.kept]), 2),
            number(_median(review.margin[~review.kept]), 2),
            percent(float((review.margin < 0).mean())),
        )
        for review in found
    )
    columns = ("round", "scored", _TRAINED, "of them generated", "median trained on", "median dropped", "below 0")
    table = Table(_caption("Margins in nats", part), columns, rows)
    return Picture("margins", title, reading, tuple(panels), tuple(legend), table)


def _bars(over: Over, found: list[Review], edges: np.ndarray, most: int) -> tuple[dict[str, Any], list[Key]]:
    values = []
    for review in found:
        below = np.zeros(len(edges) - 1, dtype=int)
        classes = (review.kept & ~review.generated, review.kept & review.generated, ~review.kept)
        for name, members in zip(_CLASSES, classes, strict=True):
            counts = _counts(review.margin[members], edges)
            values += [
                {"low": float(edges[place]), "high": float(edges[place + 1]), "series": name}
                | {"n": int(counts[place]), "below": int(below[place]), "above": int(below[place] + counts[place])}
                for place in np.flatnonzero(counts)
            ]
            below += counts
    channels = {
        "x": axis("low", "margin (nats)", _ends(edges)),
        "x2": {"field": "high"},
        "y": axis("below", "pairs", (0, 1.05 * most)),
        "y2": {"field": "above"},
        "color": colours("series", _CLASSES),
        "tooltip": over.tips(series="pairs", n=("how many", ",d"), low=("margin from", ".2f"), high=("to", ".2f")),
    }
    legend = [Key(name, colour, "area") for name, colour in _CLASSES.items()]
    return chart(
        values, [layer("rect", {"stroke": "var(--paper)", "strokeWidth": 0.75}, channels), level(0, "x")]
    ), legend


def _outlines(over: Over, found: list[Review], edges: np.ndarray, _: int) -> tuple[dict[str, Any], list[Key]]:
    values = []
    for review in found:
        for name, members in ((_TRAINED, review.kept), ("scored", np.ones_like(review.kept))):
            counts = _counts(review.margin[members], edges)
            values += [
                {"low": float(low), "share": round(float(count) / max(counts.sum(), 1), 5)}
                | {"run": review.run, "series": name}
                for low, count in zip(edges, [*counts, 0], strict=True)
            ]
    shown, legend = over.series(
        {_TRAINED: Key(_TRAINED, "kept", "line"), "scored": Key("all scored", "muted", "dashed")}
    )
    channels = {
        "x": axis("low", "margin (nats)", _ends(edges)),
        "y": axis("share", "share of pairs", form=".1~%", zero=True),
        "tooltip": over.tips(series="pairs", low=("margin from", ".2f"), share=("share", ".1%")),
    }
    lines = layer("line", {"interpolate": "step-after", "strokeWidth": 1.75}, channels | shown)
    return chart(values, [lines, level(0, "x")]), legend


def _lengths(over: Over, found: list[Review], part: str) -> Picture:
    title = "Margin against length"
    if not found:
        return Picture("lengths", title, _NONE)
    across = _range(np.concatenate([review.longer for review in found]))
    up = _range(np.concatenate([review.margin for review in found]))
    of = {_TRAINED: "kept", "dropped": "dropped"}
    shapes = {_TRAINED: "dot", "dropped": "triangle"}
    legend = [Key(name, "muted" if over.several else of[name], shape) for name, shape in shapes.items()]
    legend = [*over.legend("dot"), *legend] if over.several else legend
    panels = []
    for index in sorted({review.index for review in found}):
        values = []
        for review in (review for review in found if review.index == index):
            inside = (np.abs(review.margin - sum(up) / 2) * 2 <= up[1] - up[0]) & (
                np.abs(review.longer - sum(across) / 2) * 2 <= across[1] - across[0]
            )
            values += [
                {"x": int(review.longer[place]), "y": round(float(review.margin[place]), 3), "run": review.run}
                | {"series": _TRAINED if review.kept[place] else "dropped"}
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
        panels.append(Panel(f"Round {index}", chart(values, [level(0), level(0, "x"), points], 210)))
    rows = tuple(
        (
            over.label(review.run, f"round {review.index}"),
            signed(correlation(review.longer, review.margin), 2),
            signed(correlation(review.longer[review.kept], review.margin[review.kept]), 2),
            signed(_mean(review.longer), 1),
            signed(_mean(review.longer[review.kept]), 1),
        )
        for review in found
    )
    columns = ("round", "correlation, all", "correlation, trained on", "longer by, all", "longer by, trained on")
    reading = (
        "Each point is a pair, a sample where there are many. A cloud that rises to the right means that the policy "
        "finds longer responses better, and that the round selected them for it."
    )
    if part:
        reading += f" The table is of {part}."
    table = Table(_caption("Margin and length difference of the pairs in play", part), columns, rows)
    return Picture("lengths", title, reading, tuple(panels), tuple(legend), table)


def _correlations(over: Over, runs: Sequence[RunContents], found: list[Review], part: str) -> Picture:
    title = "How far length explains the margin"
    keys = {
        "scored": Key("before: offline pairs, as scored", "scored", "line"),
        _TRAINED: Key("of them trained on", "kept", "line"),
        "held out": Key("after: held-out pairs", "heldout", "dashed"),
    }
    if over.several:
        del keys[_TRAINED]
    values, rows = [], []
    for run in runs:
        offline = {review.index: review for review in found if review.run == run.name}
        after = {policy["role"]: policy["margin_length_correlation"] for policy in run.figures["policies"]}
        for entry in run.figures["rounds"]:
            index = entry["round"]
            figures = {"scored": (entry["select"] or {}).get("margin_length_correlation"), _TRAINED: None}
            if index in offline:
                kept = offline[index].kept & ~offline[index].generated
                figures[_TRAINED] = correlation(offline[index].longer[kept], offline[index].margin[kept])
            figures["held out"] = after.get(f"round-{index}")
            values += [
                {"round": index, "r": round(value, 4), "series": name, "run": run.name}
                for name, value in figures.items()
                if value is not None and name in keys
            ]
            made = (entry["bootstrap"] or {}).get("margin_length_correlation")
            cells = (signed(value, 2) for value in (*figures.values(), made))
            rows.append((over.label(run.name, f"round {index}"), *cells))
    if not values:
        return Picture("correlations", title, "No pair has been scored, and no round evaluated on held-out pairs.")
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
        reading += f" What is said of those trained on is of {part}."
    columns = ("round", "offline, as scored", "of them trained on", "held out, after", "generated")
    table = Table("Correlation of margin and length difference", columns, tuple(rows))
    panels = (Panel("", chart(values, [level(0), lines], 210)),)
    return Picture("correlations", title, reading, panels, tuple(legend), table, half=True)


def _caption(of: str, part: str) -> str:
    return f"{of}, of {part}" if part else of


def _edges(margins: np.ndarray) -> np.ndarray:
    """Edges of some ``BINS`` bars of a round width; 0 is one of them where it is inside."""
    low, high = np.quantile(margins, [TAIL, 1 - TAIL])
    least = max(float(high - low) / BINS, 1e-6)
    unit = 10.0 ** math.floor(math.log10(least))
    width = next(step * unit for step in (1, 2, 2.5, 5, 10) if step * unit >= 0.999 * least)
    first, last = math.floor(low / width), math.ceil(high / width)
    return width * np.arange(first, max(last, first + 1) + 1)


def _counts(margins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(margins, edges[0], edges[-1]), edges)[0]


def _ends(edges: np.ndarray) -> tuple[float, float]:
    return float(edges[0]), float(edges[-1])


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    return spread([float(low), float(high)])


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None

"""The chart of the generated pairs: how much longer the chosen answer is than the rejected one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seralign.report.bins import bin_counts, bin_edges, outermost
from seralign.report.charts import Chart, Key, Over, Panel, axis, chart, layer, level, share_format
from seralign.report.contents import RunContents
from seralign.report.reviews import Review, reviews
from seralign.tables import Table, number, percent, signed

_KEYS = {
    "generated": Key("generated pairs, selected", "made", "line"),
    "offline": Key("offline pairs, selected", "kept", "dashed"),
}


def generated_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The chart of the generated pairs of one run, or of several over each other."""
    found = [review for run in runs for review in reviews(run) if (review.generated & review.kept).any()]
    title = "Length difference of the selected pairs"
    if not found:
        return [Chart("generated", title, "No round has selected generated pairs.")]
    edges = _edges(np.concatenate([review.longer[review.kept] for review in found]).astype(np.float64))
    shown, legend = over.series(_KEYS)
    panels = []
    for index in sorted({review.index for review in found}):
        some = [review for review in found if review.index == index]
        panels.append(Panel(f"Round {index}", _lines(over, some, edges, shown)))
    reading = (
        "How much longer the chosen answer is, in tokens, of the pairs that each round selected. If the generated ones "
        "are almost all on one side of 0, the round makes the policy write longer (or shorter) answers, whatever else "
        "it teaches. These are the lengths themselves, not what is left of them after scoring.length_correction. The "
        "outermost steps include everything beyond them."
    )
    columns = ("round", "generated", "chosen longer", "longer by", "offline", "chosen longer", "longer by")
    rows = tuple((over.label(review.run, f"round {review.index}"), *_cells(review)) for review in found)
    table = Table("Selected pairs whose chosen answer is the longer one, equal lengths half; tokens", columns, rows)
    return [Chart("generated", title, reading, tuple(panels), tuple(legend), table)]


def _edges(longer: np.ndarray) -> np.ndarray:
    """Edges of bars that are at least a token wide."""
    edges = bin_edges(longer)
    return edges if edges[1] - edges[0] >= 1 else np.arange(np.floor(edges[0]), np.ceil(edges[-1]) + 2)


def _lines(over: Over, found: list[Review], edges: np.ndarray, shown: dict[str, Any]) -> dict[str, Any]:
    values = []
    for review in found:
        for name, members in (("generated", review.generated), ("offline", ~review.generated)):
            counts = bin_counts(review.longer[members & review.kept].astype(np.float64), edges)
            values += [
                {"low": float(low), "share": round(float(count) / max(counts.sum(), 1), 5)}
                | {"run": review.run, "series": name}
                for low, count in zip(edges, [*counts, 0], strict=True)
            ]
    channels = {
        "x": axis("low", "chosen longer by (tokens)", outermost(edges)),
        "y": axis("share", "share of pairs", form=share_format(0.0, max(v["share"] for v in values)), zero=True),
        "tooltip": over.tips(series="pairs", low=("longer by", "+.0f"), share=("share", ".1%")),
    }
    lines = layer("line", {"interpolate": "step-after", "strokeWidth": 1.75}, channels | shown)
    return chart(values, [lines, level(0, "x")])


def _cells(review: Review) -> list[str]:
    cells = []
    for members in (review.generated & review.kept, ~review.generated & review.kept):
        longer = review.longer[members]
        share = float((np.sign(longer) + 1).mean() / 2) if len(longer) else None
        cells += [number(len(longer), 0), percent(share), signed(float(longer.mean()) if len(longer) else None, 1)]
    return cells

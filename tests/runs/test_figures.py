"""Figures of stages: the same through JSON, and one clear error for a record that does not hold them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from seralign.errors import StoreError
from seralign.intervals import Interval
from seralign.runs import Run, open_run
from seralign.runs.data_figures import DataFigures, Lengths, SourceFigures
from seralign.runs.figures import ComposeFigures, EvaluateFigures, PrecisionFigures, ResultFigures
from seralign.runs.layout import place, round_of, round_stage
from seralign.runs.typed import from_json, to_json

SOURCE = SourceFigures(
    "a.jsonl", 5, 3, {"tie": 2}, {}, {"prompt": Lengths(1, 2.5, 4.0, 9)}, 0.5, ("note",), ("a remark",)
)
ALL = (
    DataFigures(3, 1, 0, {"pairs": SOURCE}),
    PrecisionFigures("float32", None, None),
    PrecisionFigures("bfloat16", "a processor", {"float32": 1.5, "bfloat16": 4.0}),
    ResultFigures("round 1", "ab", "", {"a": {"b": Interval(0.5, None, 0.75, 2)}}, "float32", None, None),
    EvaluateFigures("sft", n=2, kl=Interval(0.0, None, None, 1)),
)


@pytest.mark.parametrize("figures", ALL, ids=lambda figures: type(figures).__name__)
def test_json_there_and_back(figures: Any) -> None:
    assert from_json(type(figures), json.loads(json.dumps(to_json(figures), allow_nan=False))) == figures


def test_a_whole_number_stands_for_a_float_but_not_the_other_way() -> None:
    assert from_json(ComposeFigures, {"offline": 3, "generated": 1, "share": 1, "share_wanted": 0.5}).share == 1.0
    with pytest.raises(ValueError, match=r"^offline is 3.0, which is not of type int$"):
        from_json(ComposeFigures, {"offline": 3.0, "generated": 1, "share": 0.25, "share_wanted": 0.5})
    with pytest.raises(ValueError, match=r"^generated is True, which is not of type int$"):
        from_json(ComposeFigures, {"offline": 3, "generated": True, "share": 0.25, "share_wanted": 0.5})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("heldout"), "heldout is missing"),
        (lambda data: data.update(other=1), "other is not known"),
        (lambda data: data["sources"]["pairs"].pop("soft"), "sources.pairs.soft is missing"),
        (lambda data: data["sources"]["pairs"]["lengths"]["prompt"].update(max="9"),
         "sources.pairs.lengths.prompt.max is '9', which is not of type int"),
        (lambda data: data["sources"]["pairs"]["unread"].append(1),
         r"sources.pairs.unread\[1\] is 1, which is not of type str"),
        (lambda data: data.update(sources=[]), "sources is \\[\\], which is not of type dict"),
    ],
)  # fmt: skip
def test_figures_of_another_version_are_one_clear_error(change: Any, said: str, tmp_path: Path) -> None:
    content = to_json(ALL[0])
    content = json.loads(json.dumps(content))
    change(content)
    run = open_run(tmp_path, {}, {})
    run.begin("data", {})
    run.commit("data", {}, content, 1.0)
    where = tmp_path / "data" / "stage.json"
    with pytest.raises(StoreError, match=f"^{where}: not the figures of this version: {said}.*--out"):
        run.figures("data", DataFigures)


def test_figures_of_a_stage_are_read_by_their_kind(tmp_path: Path) -> None:
    run = open_run(tmp_path, {}, {})
    run.begin("round-2/compose", {})
    run.commit("round-2/compose", {}, to_json(ComposeFigures(6, 2, 0.25, 0.3)), 1.0)
    assert Run(tmp_path).figures(round_stage(2, "compose"), ComposeFigures) == ComposeFigures(6, 2, 0.25, 0.3)
    with pytest.raises(StoreError, match="has not finished"):
        run.figures("round-3/compose", ComposeFigures)


def test_figures_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"win_rates\.q\.low of policy 'p' must be finite, got -inf"):
        EvaluateFigures("p", win_rates={"q": Interval(0.5, -math.inf, 1.0, 1)})


def test_stages_have_a_place_in_the_order_of_a_run() -> None:
    order = ["world", "data", "sft", "policies", "initial/evaluate", "crossfit/review", "round-1/train",
             "round-1/evaluate", "round-2/score", "round-2/select", "round-2/train", "round-10/score", "baseline/train",
             "baseline/evaluate", "result", "another"]  # fmt: skip
    assert sorted(sorted(order), key=place) == order
    assert [round_of(stage) for stage in ("round-10/score", "round-2", "round-x", "data")] == [10, 2, None, None]

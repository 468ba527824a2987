"""The labeller as a judge: its probability is that of the soft labels of a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seralign.config import WorldConfig
from seralign.errors import ConfigError
from seralign.evaluation.judges import Comparison, make_judge
from seralign.evaluation.scorer import make_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.laboratory.grammar import offline_pairs
from seralign.laboratory.world import GRAMMARS
from seralign.records import Prompt
from seralign.runs.results import Results

NAME = "seralign.laboratory.labeller_judge:LabellerJudge"


@pytest.mark.parametrize("world", ["clauses", "sums"])
def test_it_gives_the_probability_of_the_soft_labels(world: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {"name": world, "pairs": 60, "noise": 0.1, "spurious_strength": 0.5, "soft_labels": True}
    config = WorldConfig(**values)
    made = GRAMMARS[world](config)
    rows = offline_pairs(made)
    results = Results(tmp_path / "results.sqlite")
    scorer = StoredScorer(make_scorer(made.score, "gold", "world"), results)
    judge = make_judge(NAME, {"length": 0.5, "noise": 0.1}, scorer)
    asked = [Comparison(Prompt(str(at), row["prompt"], ()), row["chosen"], row["rejected"])
             for at, row in enumerate(rows)]  # fmt: skip
    found = [verdict.first_better or 0.0 for _, verdict in judge.judge(asked)]
    np.testing.assert_allclose(found, [row["p"] for row in rows], rtol=0, atol=1e-12)
    swapped = [Comparison(one.prompt, one.second, one.first) for one in asked]
    other = [verdict.first_better or 0.0 for _, verdict in judge.judge(swapped)]
    np.testing.assert_allclose(other, [1 - row["p"] for row in rows], rtol=0, atol=1e-12)
    results.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 1.5}, r"evaluation.judge_options.noise must be in \[0, 1\], got 1.5"),
        ({"nois": 0.1}, "evaluation.judge_options.nois: unknown key; did you mean evaluation.judge_options.noise?"),
        ({}, "evaluation.judge: the labeller needs the gold reward of a world, or evaluation.scorer"),
    ],
)
def test_wrong_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_judge(NAME, options, None)

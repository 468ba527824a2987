"""Generated pairs whose labels are how far the last two policies agree on the ranking of the responses."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import logps_alone, small_config
from tiny import as_pairs

from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.pipeline import train
from seralign.report.figures import run_figures
from seralign.report.notes import run_notes
from seralign.runs import Run, read_manifest
from seralign.runs.files import read_table

VALUES: dict[str, Any] = {
    "sft": None, "world": {"pairs": 24, "prompts": 8, "heldout": 4},
    "evaluation": {"prompts": 0, "token_pairs": 0},
    "bootstrap": {"samples": 4, "max_new_tokens": 24, "batch_size": 8, "temperature": 1.0, "agreement": "prompt",
                  "selection": {"rule": "all"}},
}  # fmt: skip


def shares_in_the_same_order(run: Run, index: int) -> dict[str, float]:
    """Of the pairs of responses to each prompt, the share that the last policy and the one before it order alike, from
    log-probabilities of transformers; in round 2 the reference's mean per token stands for the policy before."""
    rows = read_table(run.path(f"round-{index}/sample", "candidates.parquet")).to_pylist()
    prompts = {row["prompt_id"]: row["ids"] for row in map(dict, read_examples(run.path("data", "prompts.arrow")))}
    table = [{"prompt_ids": prompts[row["prompt_id"]], "chosen": row["ids"]} for row in rows]
    reference = logps_alone(run.root / "world" / "model", table, "chosen")
    last, before = (
        logps_alone(run.path(f"round-{number}/train", "policy"), table, "chosen") - reference
        if number
        else reference / [len(row["ids"]) for row in rows]
        for number in (index - 1, index - 2)
    )
    found: dict[str, float] = {}
    for prompt_id in prompts:
        texts = {
            row["text"].strip(): at
            for at, row in reversed(list(enumerate(rows)))
            if row["prompt_id"] == prompt_id and row["finished"] and row["text"].strip()
        }
        same = [(last[i] > last[j]) == (before[i] > before[j]) for i, j in combinations(texts.values(), 2)]
        if same:
            found[prompt_id] = float(np.mean(same))
    return found


def test_the_label_is_the_agreement_of_the_last_two_policies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small_config(tmp_path / "run", **VALUES)).run
    said = "".join(capsys.readouterr())
    for index in (2, 3):
        expected = shares_in_the_same_order(run, index)
        generated = read_examples(run.path(f"round-{index}/bootstrap", "generated.arrow"))
        made = [dict(row) for row in as_pairs(generated)]
        margins = read_table(run.path(f"round-{index}/bootstrap", "selection.parquet"))["margin"].to_pylist()
        assert len(made) == len(expected) > 3
        for row, margin in zip(made, margins, strict=True):
            share = expected[row["prompt_id"]]
            assert row["p"] == pytest.approx(max(share, 1 - share))
            # Below one half, the response with the lower reward is the chosen one.
            assert (margin > 0) == (share >= 0.5)
        mean = float(np.mean(list(expected.values())))
        assert run.record(f"round-{index}/bootstrap").figures["agreement"] == pytest.approx(mean)
        notes = run_notes(run_figures(run), read_manifest(run.root)["config"])
        assert sum(f"Round {index}: the two rankings of the sampled responses agree at" in note for note in notes) == 1
        assert f"round-{index}: the last two policies agree on rankings of responses at {mean:.3f}" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"bootstrap.labels": "judge"},
            r"bootstrap\.agreement: dataset is the p of pairs that the reward lab",
        ),
        (
            {"bootstrap.preferences": "ranking"},
            r"bootstrap\.agreement: dataset is the p of .* preferences: ranking",
        ),
        ({"bootstrap.method": "spin"}, r"bootstrap\.agreement: dataset compares sampled responses"),
        ({"objective.name": "aot"}, r"bootstrap\.agreement: dataset makes labels soft, and aot has no form for those"),
        (
            {"scoring.reward": "mixed", "scoring.reward_models": ["m"]},
            r"bootstrap\.agreement: dataset is that of the policies' implicit rewards, and scoring\.reward: mixed",
        ),
    ],
)
def test_agreement_that_cannot_be_had_is_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    values = {key.replace(".", "__"): value for key, value in more.items()}
    with pytest.raises(ConfigError, match=message):
        small_config(tmp_path / "run", bootstrap__agreement="dataset", **values)

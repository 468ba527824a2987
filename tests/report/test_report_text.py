"""The figures of a run as text: tables for the terminal and Markdown for the model card."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hand_made import add_data, new_run, pair, whole_run
from rich.console import Console

from seralign.intervals import Interval
from seralign.report.figures import run_figures
from seralign.report.record import EvaluatedPolicy, RunFigures, RunWarning
from seralign.report.text import policies_markdown, run_tables, warnings_markdown
from seralign.runs.data_figures import Lengths
from seralign.runs.figures import EvaluateFigures

WARNING = RunWarning("kl", "round 3", 12.0, 10.0, "Answers are [bold]12 nats[/bold] away.", "Raise objective.beta.")


def shown(figures: RunFigures, width: int = 200) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(run_tables(figures))
    return captured.get().splitlines()


def cells(lines: list[str], first: str, width: int) -> list[str]:
    """The cells of the last table row that begins with ``first`` and has so many columns."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return [row for row in rows if row[0] == first and len(row) == width][-1]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> RunFigures:
    return run_figures(whole_run(tmp_path_factory.mktemp("whole") / "run"))


def test_what_each_round_trained_on(figures: RunFigures) -> None:
    """From the mix: two offline pairs and one generated; round 1 trained on all that there are."""
    lines = shown(figures)
    lines = lines[: next(place for place, line in enumerate(lines) if line.startswith("reviews:"))]
    assert cells(lines, "1", 11) == ["1", "all", "–", "–", "–", "–", "4", "0", "–", "5", "–"]
    assert cells(lines, "2", 11)[:10] == ["2", "2 of 4", "1.00", "8", "1", "1", "2", "1", "30.0%", "5"]
    *rounds, last = figures.rounds
    lines = shown(replace(figures, rounds=(*rounds, replace(last, train=None))))
    lines = lines[: next(place for place, line in enumerate(lines) if line.startswith("reviews:"))]
    assert cells(lines, "3", 11)[6:] == ["–"] * 5


def test_what_the_reviews_saw(figures: RunFigures) -> None:
    entry = figures.rounds[2]
    assert entry.select is not None
    assert entry.bootstrap is not None
    select = replace(
        entry.select, margin_length_correlation=0.612, margin_length_correlation_kept=0.4, similarity_kept=0.25
    )
    made = replace(
        entry.bootstrap,
        margin_length_correlation=-0.1,
        similarity_kept=0.875,
        chosen_longer_kept=0.993,
        length_difference_kept=28.14,
    )
    row = cells(shown(replace(figures, rounds=(replace(entry, select=select, bootstrap=made),))), "3", 12)
    assert row == ["3", "60.0%", "0.61", "0.40", "−0.10", "99.3%", "28.1", "25.0%", "87.5%", "9.5", "0.400", "0.0%"]


def test_policies_with_their_intervals(figures: RunFigures) -> None:
    row = cells(shown(figures), "round 2", 9)
    assert row == ["round 2", "0.200 ± 0.010", "–", "10.0", "–", "60.0% (59.0 to 61.0)", "–", "0.500", "0.0%"]
    markdown = policies_markdown(figures).splitlines()
    assert markdown[0].startswith("| policy | score | wins against initial |")
    assert markdown[4].startswith("| round 2 | 0.200 ± 0.010 | – | 10.0 |")


def test_where_it_began_and_ended(figures: RunFigures) -> None:
    text = "\n".join(shown(figures))
    assert "dpo, reference m (ffffffffffffffff)" in text
    assert "4 pairs to train on, 10 held out; dropped 1 tie" in text
    assert "result: round 3 in " in text
    assert "(all rounds done)" in text
    assert "warnings" not in text


def test_warnings_are_told_in_full_and_are_no_markup(figures: RunFigures) -> None:
    narrow = " ".join(" ".join(shown(replace(figures, warnings=(WARNING,)), width=60)).split())
    assert "warnings kl" in narrow
    for word in ("[bold]12", "nats[/bold]", "away.", "Raise", "objective.beta."):
        assert word in narrow
    assert warnings_markdown([WARNING]) == "- Answers are [bold]12 nats[/bold] away. Raise objective.beta."
    assert warnings_markdown([]) == "None of the figures is beyond its limit."


def test_a_run_that_was_killed_says_so(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    text = " ".join(shown(run_figures(run)))
    assert "no data read yet" in text
    assert "no stage has finished" in text
    add_data(run, [pair("a")])
    text = " ".join(shown(run_figures(run)))
    assert "The run has not finished: the last finished stage is data." in text
    assert "no result yet (no round done yet)" in text


def test_one_value_has_no_interval() -> None:
    policy = EvaluatedPolicy(
        "initial", EvaluateFigures("p", score=Interval(0.5, None, None, 1), length=3.0, unfinished=0.0)
    )
    assert (
        policies_markdown(RunFigures("run", "dpo", policies=(policy,))).splitlines()[2]
        == "| p | 0.500 | – | 3.0 | – | – | – | – | 0.0% |"
    )


def test_accuracy_is_explained_where_pairs_are_ranked(figures: RunFigures) -> None:
    ranked, supervised = (" ".join(shown(replace(figures, objective=name))) for name in ("dpo", "sft"))
    assert "policies: answers to held-out prompts, held-out pairs, 95% intervals; accuracy: share of pairs" in ranked
    assert "policies: answers to held-out prompts, 95% intervals" in supervised
    assert "accuracy: share of pairs" not in supervised


def test_examples_of_another_form_are_not_called_pairs(figures: RunFigures) -> None:
    assert figures.data is not None
    lengths = {"prompt": Lengths(1, 1.0, 1.0, 1), "response": Lengths(1, 1.0, 1.0, 1)}
    source = replace(figures.data.sources["pairs"], lengths=lengths)
    ranked = replace(figures, data=replace(figures.data, sources={"pairs": source}))
    assert "4 examples to train on, 10 held out" in "\n".join(shown(ranked))

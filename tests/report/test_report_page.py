"""The page of a report without a browser: structure, text that nobody may trust, sizes, policy, figures."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from packed_pairs import filters, unpacked
from synthetic import synthetic_run, with_columns, with_texts

from seralign.errors import SeralignError
from seralign.intervals import Interval, correlation
from seralign.report import page
from seralign.report.answers import Answer, Answers, pack_answers
from seralign.report.charts import Over, share_format, spread, thinned
from seralign.report.charts_calibration import calibration_charts
from seralign.report.charts_generated import generated_charts
from seralign.report.charts_pairs import pair_charts
from seralign.report.charts_rounds import policy_charts
from seralign.report.charts_training import work_charts
from seralign.report.compare import cautions, comparison, differences
from seralign.report.contents import RunContents
from seralign.report.explorer import pack_pairs
from seralign.report.format import visible
from seralign.report.page import write_report
from seralign.report.record import EvaluatedPolicy, RunFigures, RunWarning, StageCost
from seralign.report.reviews import reviews
from seralign.report.summary import headline, rounds_table, tiles
from seralign.report.text import policies_markdown
from seralign.report.verdict import verdict
from seralign.runs.figures import NamedPolicy
from seralign.tables import duration, number, percent, signed

VENDOR = Path(page.__file__).parent / "templates" / "vendor"
NASTY = "</script><script>alert(1)</script><!-- {{ 7 * 7 }} <img src=x onerror=alert(1)> \u202e\x07\udcff & '\""
# Arrow holds no halves of surrogates; names of folders may, and text in figures.
TEXT = NASTY.replace("\udcff", "")


class Page(HTMLParser):
    """The elements of a page, and the text of each by its attributes; what is inside scripts and style is theirs."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: list[tuple[str, dict[str, str], list[str]]] = []
        self.texts: list[tuple[str, dict[str, str], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag not in ("meta", "input", "br"):
            self.inside.append((tag, found, []))

    def handle_endtag(self, tag: str) -> None:
        name, attributes, text = self.inside.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"
        self.texts.append((name, attributes, "".join(text)))
        if self.inside and tag not in ("script", "style"):
            self.inside[-1][2].append(f" {''.join(text)} ")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.inside[-1][2].append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def text(self, tag: str) -> list[str]:
        return [" ".join(text.split()) for name, _, text in self.texts if name == tag]

    def script(self, name: str) -> str:
        (found,) = [text for tag, attributes, text in self.texts if tag == "script" and attributes.get("id") == name]
        return found


def written(tmp_path: Path, *runs: RunContents) -> tuple[Page, str]:
    path = tmp_path / "report.html"
    write_report(runs, path)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    return written(tmp_path_factory.mktemp("one"), synthetic_run())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    return written(tmp_path_factory.mktemp("two"), synthetic_run(name="a"), synthetic_run(rounds=2, name="b", seed=1))


# Structure


def test_the_page_is_one_file_that_asks_for_nothing(one: tuple[Page, str]) -> None:
    found, _ = one
    for tag, attributes in found.elements:
        assert not {"src", "srcset", "action", "style", "background", "poster"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form") or attributes.get("id") in (
            "filters",
            "a-filters",
        )
    links = [attributes["href"] for attributes in found.all("a")]
    assert all(link.startswith("#") or link.endswith((".arrow", ".parquet")) for link in links)
    assert not re.search(r"url\(|@import", found.text("style")[0])


def test_the_policy_names_every_script_by_its_digest_and_nothing_else(one: tuple[Page, str]) -> None:
    found, _ = one
    (meta,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.strip().split(" ", 1) for part in meta["content"].split(";"))
    assert policy["default-src"] == "'none'"
    assert set(policy) == {
        "default-src", "script-src", "style-src", "base-uri", "form-action", "require-trusted-types-for",
    }  # fmt: skip
    assert "unsafe" not in meta["content"]

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = [text for tag, attributes, text in found.texts if tag == "script" and not attributes]
    assert len(scripts) == 9
    assert policy["script-src"].split() == [digest(text) for text in scripts]
    (style,) = [text for tag, _, text in found.texts if tag == "style"]
    assert policy["style-src"] == digest(style)
    names = [name for name, _ in found.elements]
    assert names.index("meta") < names.index("style"), "a policy holds only for what follows it"
    typed = [attributes["type"] for attributes in found.all("script") if attributes]
    assert set(typed) == {"application/json", "application/octet-stream"}


def test_the_library_is_the_one_that_is_written_down() -> None:
    said = dict(
        re.findall(r"^\| `([\w.-]+)` .* `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    )
    assert {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in said} == said
    assert {file.name for file in VENDOR.glob("*.js")} == set(said)


@pytest.mark.parametrize("pages", ["one", "two"])
def test_people_who_cannot_see_it_find_their_way(pages: str, request: pytest.FixtureRequest) -> None:
    found, _ = request.getfixturevalue(pages)
    assert found.all("html", lang="en")
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 == levels.count(1)
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "a level is left out"
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {
        attributes[key] for _, attributes in found.elements for key in ("aria-labelledby", "for") if key in attributes
    }
    assert {name for group in named for name in group.split()} <= set(ids) | {"pair-title"}, "pair-title is made later"
    tables = found.all("table", **{"class": "data"}) + found.all("table", **{"class": "data words"})
    assert len(found.text("caption")) == len(tables) > 5
    charts = [attributes for _, attributes in found.elements if "data-chart" in attributes]
    assert charts
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 20 for attributes in charts)
    assert [int(attributes["data-chart"]) for attributes in charts] == list(range(len(charts)))
    assert len(json.loads(found.script("chart-specs"))) == len(charts)
    figures = re.findall("<figure.*?</figure>", request.getfixturevalue(pages)[1], re.DOTALL)
    assert len(figures) == 13
    assert all("data-chart" not in figure or "<details><summary>" in figure for figure in figures), "no table to read"


def test_what_a_run_did_is_said_at_a_summary(one: tuple[Page, str]) -> None:
    found, _ = one
    assert found.text("h1") == ["synthetic"]
    body = " ".join(found.text("main"))
    assert "DPO on 150 preference pairs, 3 rounds; the result is round 3." in " ".join(found.text("header"))
    assert "Answers of round 3 are 1.8 times as long as the starting policy's. Try objective.name: simpo." in body
    assert "length Answers of round 3" in body, "the kind of an warning, as the documentation names it"
    assert "dropped: 12 response too long, 8 tie" in body
    assert "All rounds done" in body
    assert "No held-out pairs were looked at twice." in body
    values = {tile.label: (tile.value, tile.note) for tile in tiles(synthetic_run())}
    assert values["Held-out accuracy"] == (
        "65.0%",
        "pairs with a margin above zero; 95% interval 57.0% to 73.0%; ties at the start",
    )
    assert values["Wins against sft"] == ("68.0%", "95% interval 65.0% to 71.0%")
    assert values["Score"] == ("0.300", "95% interval 0.250 to 0.350; 0.000 at the start")


def test_the_table_of_rounds_has_what_each_kept_generated_and_gained() -> None:
    table = rounds_table(synthetic_run())
    assert table is not None
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["offline kept"] for row in rows] == ["all", "105 of 150", "105 of 150"]
    assert [row["generated"] for row in rows] == ["–", "25", "25"]
    assert [row["generated used"] for row in rows] == ["0", "15", "15"]
    assert [row["change, points"] for row in rows] == ["+5.0", "+5.0", "+5.0"]


def test_compared_runs_begin_with_what_differs(two: tuple[Page, str]) -> None:
    found, _ = two
    captions = found.text("caption")
    assert captions[:2] == ["Keys of the configuration that differ", "The runs side by side"]
    table = differences([synthetic_run(name="a"), synthetic_run(rounds=2, name="b")])
    assert table.rows == (("rounds", "3", "2"), ("data.pairs.path", "a.jsonl", "b.jsonl"))
    assert not differences([synthetic_run(), synthetic_run(seed=1)]).rows
    assert [text.split() for _, attributes, text in found.texts if attributes.get("id") == "f-run"] == [["a", "b"]]
    assert found.script("pairs-1")


def test_runs_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    found, _ = written(tmp_path, synthetic_run(), synthetic_run(seed=1))
    assert found.text("h1") == ["synthetic / synthetic (2)"]


def test_numbered_names_are_free() -> None:
    runs = [synthetic_run(20, name=name) for name in ("a", "a (2)", "a", "a", "a (2)")]
    assert [run.name for run in page._named(runs)] == ["a", "a (2)", "a (3)", "a (4)", "a (2) (2)"]


def test_more_runs_than_colours_are_refused(tmp_path: Path) -> None:
    runs = [synthetic_run(20, name=str(place)) for place in range(9)]
    with pytest.raises(SeralignError, match=r"^9 runs to compare: a report holds at most 8"):
        write_report(runs, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
    found, _ = written(tmp_path, *runs[:8])
    assert found.script("pairs-7")


def bare(**figures: Any) -> RunContents:
    run = synthetic_run(rounds=1)
    return replace(run, figures=replace(run.figures, warnings=(), **figures))


def test_a_run_of_one_round_says_what_it_has_not(tmp_path: Path) -> None:
    found, _ = written(tmp_path, bare())
    text = " ".join(found.text("main"))
    assert json.loads(found.script("pairs-0"))["first_all"], "all pairs are those that round 1 trained on"
    assert "No pair has been scored: reviewing begins with round 2." in text
    assert "No warnings" in text
    assert "No round used generated pairs." in text
    assert json.loads(found.script("pairs-0"))["rounds"] == []


def test_a_run_that_was_killed_at_once_gives_a_report(tmp_path: Path) -> None:
    figures = RunFigures("runs/synthetic", "dpo", notes=("The run has not finished: no stage has finished.",))
    run = replace(bare(), figures=figures, pairs=None, pairs_total=0, training={}, tables=())
    found, _ = written(tmp_path, run)
    text = " ".join(found.text("main"))
    for sentence in (
        "no stage has finished",
        "No data read yet",
        "No policy has been evaluated yet",
        "No pairs: the run has not read its data",
        "No stage is done yet",
        "Nothing has been measured yet, so there are no warnings.",
    ):
        assert sentence in text
    assert "No warnings" not in text
    assert headline(run) == "DPO, no data read yet, 0 of 1 rounds; there is no result yet."
    assert not [attributes for _, attributes in found.elements if "data-chart" in attributes]


def test_figures_that_are_no_numbers_do_not_stop_the_report(tmp_path: Path) -> None:
    run = synthetic_run()
    lost = dict.fromkeys(("rewards/chosen", "eval_rewards/rejected", "loss"))
    lines = [line | {name: None for name in lost if name in line} for line in run.training["round 1"]]
    # As the line comes out of metrics.jsonl.
    training: Any = {"round 1": json.loads(json.dumps(lines))}
    found, _ = written(tmp_path, replace(run, training=training))
    charts = json.loads(found.script("chart-specs"), parse_constant=pytest.fail)
    rows = [row for spec in charts for row in spec["data"]["values"] if "where" in row]
    by = {(series, where): set() for series in ("chosen", "rejected") for where in ("training", "held out")}
    for row in rows:
        by[row["series"], row["where"]].add(row["reward"] is None)
    nulls = {key: values for key, values in by.items() if True in values}
    assert nulls == {("chosen", "training"): {True}, ("rejected", "held out"): {True}}
    figures = [cell for cell in found.text("tr") if cell.startswith("round 1 – ")]
    assert figures, "the table shows what is missing as a dash"


@pytest.mark.parametrize("name", ["", "eval_"])
def test_lines_of_training_are_thinned(name: str) -> None:
    run = synthetic_run(name="long")
    rewards = {f"{name}rewards/chosen": 0.5, f"{name}rewards/rejected": 0.1}
    run = replace(run, training={"round 1": [rewards | {"step": step} for step in range(5000)]})
    rewarded = work_charts([run], Over((run.name,)))[0]
    steps = sorted({row["step"] for row in rewarded.panels[0].spec["data"]["values"]})
    assert (len(steps), steps[0], steps[-1]) == (250, 0, 4999)


@pytest.mark.parametrize(
    ("missing", "path", "wins", "responses"),
    [
        (
            {"kl": None},
            "estimate KL only where they were sampled at evaluation.temperature",
            "Points with 95%",
            "",
        ),
        (
            {"n": 0, "score": None, "kl": None, "win_rates": {}, "heldout_accuracy": None, "heldout_margin": None}
            | dict.fromkeys(("length", "distinct_2", "self_bleu", "repetition", "unfinished")),
            "No distance is known. No answers were sampled",
            "There is nothing to compare",
            "No answers were sampled: evaluation.prompts is 0",
        ),
        (
            {"score": None, "win_rates": {}, "heldout_margin": None},
            "No reward is known",
            "Held-out accuracy: share",
            "",
        ),
    ],
)
def test_evaluated_policies_without_some_figures_say_which(
    missing: dict[str, Any], path: str, wins: str, responses: str
) -> None:
    run = synthetic_run()
    run = changed(run, **missing)
    charts = policy_charts([run], Over((run.name,)))
    assert [chart.key for chart in charts] == ["path", "wins", "responses"]
    for chart, said in zip(charts, (path, wins, responses), strict=True):
        assert said in chart.reading
        assert "No policy has been evaluated yet" not in chart.reading
        assert chart.table is not None
        assert len(chart.table.rows) >= 4
    assert not charts[0].panels


def changed(run: RunContents, role: str | None = None, **figures: Any) -> RunContents:
    """The run with other figures of one of its policies, or of all."""
    policies = tuple(
        replace(policy, figures=replace(policy.figures, **figures)) if role in (None, policy.role) else policy
        for policy in run.figures.policies
    )
    return replace(run, figures=replace(run.figures, policies=policies))


def test_a_round_that_is_better_than_the_result_is_told(tmp_path: Path) -> None:
    run = synthetic_run()
    assert verdict(run) == []
    better = changed(
        run,
        "round-2",
        score=Interval(0.31, 0.26, 0.36, 200),
        win_rates={"sft": Interval(0.8, 0.77, 0.83, 200)},
    )
    assert verdict(better) == [
        "The result is round 3, by stop.metric: win_rate.",
        "Round 2 has a higher score (0.310 against 0.300, within the intervals) and more wins against sft (80.0% "
        "against 68.0%, beyond the intervals), at less distance from the reference (3.00 against 4.50 nats).",
    ]
    more = Interval(0.7, 0.62, 0.78, 50)
    (_, said) = verdict(changed(run, "round-1", heldout_accuracy=more))
    assert said.startswith("Round 1 has a higher held-out accuracy (70.0% against 65.0%, within the intervals)")
    found, _ = written(tmp_path, better)
    assert "The result is round 3, by stop.metric: win_rate. Round 2 has" in " ".join(found.text("main"))
    assert verdict(replace(better, figures=replace(better.figures, result=None))) == []


def test_a_value_reads_the_same_as_a_share_and_as_a_percentage() -> None:
    assert (percent(0.6025), number(0.6025, 3)) == ("60.3%", "0.603")
    assert percent(1 - 0.3905) == percent(0.6095) == "61.0%"
    assert (percent(0.0005), number(-0.1205, 3), signed(0.25, 1)) == ("0.1%", "−0.121", "+0.3")
    assert (number(-0.004, 2), number(-0.006, 2), signed(-0.0, 1)) == ("0.00", "−0.01", "+0.0")
    assert (percent(None), number(1e30, 1)[:5], number(12345.5, 0)) == ("–", "1,000", "12,346")
    wins = changed(synthetic_run(), "round-3", win_rates={"sft": Interval(0.6025, 0.58, 0.625, 9)})
    tile = next(tile for tile in tiles(wins) if tile.label == "Wins against sft")
    chart = policy_charts([wins], Over(("a",)))[1]
    assert chart.table is not None
    assert (tile.value, chart.table.rows[3][1]) == ("60.3%", "0.603 ± 0.023 against sft")
    values = [row["said_mean"] for row in chart.panels[0].spec["data"]["values"]]
    assert values[-1] == "60.3%", "also where the chart is pointed at"


def test_figures_of_runs_that_cannot_be_compared_are_marked(tmp_path: Path) -> None:
    def begun(run: RunContents, digest: str, n: int) -> RunContents:
        run = replace(run, figures=replace(run.figures, initial=NamedPolicy("sft", "m", digest * 16)))
        return changed(run, n=n)

    first, second = synthetic_run(name="a"), synthetic_run(name="b", seed=1)
    assert cautions([first, second]) == []
    assert not [row for row in comparison([first, second]).rows if "*" in row[0]]
    runs = [begun(first, "1a", 200), begun(second, "2b", 50)]
    prompts, starts = cautions(runs)
    assert "different numbers of held-out prompts (a: 200, b: 50): distinct-2" in prompts
    assert "The starting policies differ (weights a: 1a1a1a1a, b: 2b2b2b2b): wins" in starts
    marked = [row[0] for row in comparison(runs).rows if row[0].endswith(" *")]
    assert marked == ["Score *", "Wins against sft *", "Distance from the reference *", "Answer length *"]
    assert "distinct-2 falls with it and cannot be compared" in policy_charts(runs, Over(("a", "b")))[2].reading
    found, _ = written(tmp_path, *runs)
    assert prompts in " ".join(found.text("main"))


def test_stages_are_in_the_order_of_a_run_also_of_several() -> None:
    second = synthetic_run(name="b")
    stages = (*second.figures.stages, StageCost("world", 5.0, 1.0))
    second = replace(second, figures=replace(second.figures, stages=stages))
    costs = work_charts([synthetic_run(name="a"), second], Over(("a", "b")))[2]
    order = costs.panels[0].spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert order[:5] == ["world", "data", "policies", "initial/evaluate", "round-1/train"]
    assert order[-1] == "result"
    assert costs.table is not None
    assert costs.table.rows[len(synthetic_run().figures.stages)][0] == "b, world"


@pytest.mark.parametrize(
    ("low", "high", "digits"), [(0, 1, 0), (0.4, 0.6, 0), (0, 0.05, 0), (0, 0.02, 1), (0, 0.004, 2)]
)
def test_ticks_have_as_many_digits_as_tell_them_apart(low: float, high: float, digits: int) -> None:
    assert share_format(low, high) == f".{digits}~%"


def test_an_axis_of_zeros_is_short() -> None:
    panel = policy_charts([changed(synthetic_run(), unfinished=0.0)], Over(("a",)))[2].panels[4]
    assert panel.spec["layer"][1]["encoding"]["y"]["scale"]["domain"] == [0.0, 0.05]


def test_the_baseline_has_one_name() -> None:
    run = synthetic_run()
    for policy in run.figures.policies:
        rates = policy.figures.win_rates | {"dpo": policy.figures.score}
        run = changed(run, policy.role, win_rates=rates)
    first, *rounds = run.figures.policies
    baseline = EvaluatedPolicy("baseline", replace(first.figures, name="dpo", win_rates={}))
    figures = replace(run.figures, policies=(first, baseline, *rounds))
    run = replace(run, figures=figures, training=run.training | {"baseline": run.training["round 1"]})
    name = "dpo alone, as many steps"
    path, wins, responses = policy_charts([run], Over(("a",)))
    assert path.legend[-1].label == name
    assert f"Wins against {name}" in [panel.title for panel in wins.panels]
    assert f"“alone” is {name}." in wins.reading
    for chart in (path, wins, responses):
        assert chart.table is not None
        assert chart.table.rows[1][0] == name
    assert f"0.300 ± 0.050 against {name}" in str(wins.table)
    rewards = work_charts([run], Over(("a",)))[0]
    assert rewards.panels[-1].title == name
    assert rewards.table is not None
    assert rewards.table.rows[-1][0] == name
    assert f"| {name} |" in policies_markdown(figures)


# Text that nobody may trust


def test_no_text_becomes_markup_or_code(tmp_path: Path) -> None:
    harmless, _ = written(tmp_path, synthetic_run())
    run = with_texts(synthetic_run(name=NASTY), prompt=TEXT, chosen=TEXT)
    warning = RunWarning("x", NASTY, 1.0, 1.0, NASTY, NASTY)
    run = changed(run, name=NASTY)
    figures = replace(run.figures, notes=(NASTY,), stopped=NASTY, warnings=(warning,))
    run = replace(
        run,
        figures=figures,
        config=run.config | {NASTY: NASTY},
        tables=(NASTY,),
    )
    found, text = written(tmp_path, run)

    def shape(given: Page) -> list[str]:
        return sorted({tag for tag, _ in given.elements})

    assert shape(found) == shape(harmless)
    assert len(found.all("script")) == len(harmless.all("script"))
    assert found.text("h1") == [visible(NASTY)]
    assert "alert(1)" not in [code for tag, attributes, code in found.texts if tag == "script" and not attributes]
    assert text.count("{{ 7 * 7 }}") > 5
    assert "</script><script>alert" not in text
    assert not re.search("[\u202e\x07\udcff]", text)
    charts = json.loads(found.script("chart-specs"))
    assert not re.search("[<>&]", found.script("chart-specs")), "nothing there could end the script or begin another"
    values = [value for spec in charts for row in spec["data"]["values"] for value in row.values()]
    assert NASTY in values, "a policy's name, whole and as it is"
    assert visible(NASTY) in values, "the run's name, as the page shows it"


def test_what_cannot_be_seen_is_named() -> None:
    assert visible("a\x00\x1b\x7f\u202eb\u200b\ufeff") == "a␀␛␡⟨U+202E⟩b⟨U+200B⟩⟨U+FEFF⟩"
    assert visible("half \ud83d and \udc00") == "half \ufffd and \ufffd"
    kept = "line\n\ttab é 漢字 עברית 👩\u200d💻 نمی\u200cخواهم"
    assert visible(kept) == kept, "words of other scripts and emoji stay as they are"


def test_the_same_list_of_unseen_characters_is_in_the_browser() -> None:
    source = (VENDOR.parent / "page.js").read_text(encoding="utf-8")
    expression = re.search(r"const UNSEEN =\s+/(.*)/gu;", source)
    assert expression is not None
    inside = (
        expression[1]
        .replace(r"\u{e0000}-\u{e007f}", "\U000e0000-\U000e007f")
        .replace(r"\p{Surrogate}", r"[\ud800-\udfff]")
    )
    same = re.compile(inside)
    characters = [
        chr(code) for code in (*range(0x3000), *range(0xD7F0, 0xE010), *range(0xFE00, 0x10000), 0xE0001, 0x1F600)
    ]
    assert [bool(same.fullmatch(one)) for one in characters] == [visible(one) != one for one in characters]


# The pairs


def test_pairs_come_back_as_they_were() -> None:
    texts = {"prompt": "\ufeffstart", "chosen": "</script> 👩\u200d💻 İ \u202e \x00", "rejected": ""}
    run = with_texts(synthetic_run(120), **texts)
    assert run.pairs is not None
    packed = pack_pairs(run.pairs, 120, 10**7)
    assert (packed.header["cut"], packed.header["pairs"], packed.header["total"]) == (0, 120, 120)
    rows, tokens, _ = unpacked(packed.header, packed.blocks)
    at = 0
    for given, row in zip(run.pairs.to_pylist(), rows, strict=True):
        assert (row["id"], row["prompt"], row["origin"]) == (given["example_id"], given["prompt"], given["origin"])
        assert row["p"] == pytest.approx(given["p"])
        assert row["kept"] == given["kept"]
        wanted = [float("nan") if margin is None else margin for margin in given["margins"]]
        assert row["margins"] == pytest.approx(wanted, nan_ok=True, rel=1e-6)
        assert row["tokens_round"] == (given["tokens_round"] or 0)
        for side in ("chosen", "rejected"):
            assert row[side] == given[side]
            if given["tokens_round"] is not None:
                assert [length for length, _ in tokens[at]] == [len(token) for token in given[f"{side}_tokens"]]
                assert [ratio for _, ratio in tokens[at]] == pytest.approx(given[f"{side}_ratios"], abs=0.00501)
                at += 1
    assert at == len(tokens) == 78


def test_columns_of_the_source_are_packed_with_their_pairs() -> None:
    """A column is a filter where it has at most 100 different values of at most 200 characters each."""
    values: dict[str, list[str | None]] = {
        "annotator": [["bob", "ann", None][at % 3] for at in range(120)],
        "note </script>": [f"note {at} 👩 \u202e" for at in range(120)],
        "hundred": [str(at % 100) for at in range(120)],
        "more": [str(at % 101) for at in range(120)],
        "short": ["x" * 200, "y"] * 60,
        "long": ["x" * 201, "y"] * 60,
        "nothing": [None] * 120,
        "origin": ["", "offline"] * 60,
    }
    run = with_columns(synthetic_run(120), **values)
    assert run.pairs is not None
    packed = pack_pairs(run.pairs, 120, 10**7)
    rows, _, _ = unpacked(packed.header, packed.blocks)
    assert [row["carried"] for row in rows] == [
        {name: column[at] for name, column in values.items()} for at in range(120)
    ]
    assert filters(packed.header, packed.blocks) == {
        "annotator": ["ann", "bob"],
        "note </script>": [],
        "hundred": sorted(map(str, range(100))),
        "more": [],
        "short": ["x" * 200, "y"],
        "long": [],
        "nothing": [],
        "origin": ["", "offline"],
    }
    assert [row["origin"] for row in rows] == run.pairs["origin"].to_pylist()


def test_texts_of_the_source_are_cut_as_others_but_filters_are_whole() -> None:
    random = np.random.default_rng(0)
    notes = ["".join(random.choice(list("abcdefgh"), 2000)) for _ in range(300)]
    run = with_columns(synthetic_run(300, coloured=0), note=notes, source=["w" * 200, None] * 150)
    assert run.pairs is not None
    packed = pack_pairs(run.pairs, 300, 60_000)
    assert packed.size <= 60_000 < pack_pairs(run.pairs, 300, 10**7).size
    rows, _, _ = unpacked(packed.header, packed.blocks)
    assert len(rows) == packed.header["cut"] == 300
    for row, given in zip(rows, notes, strict=True):
        assert len(row["carried"]["note"]) == packed.header["longest"] < len(given)
        assert given.startswith(row["carried"]["note"])
        assert row["lost_carried"] == {"note": len(given) - packed.header["longest"], "source": 0}
    assert filters(packed.header, packed.blocks) == {"note": [], "source": ["w" * 200]}


def test_coloured_pairs_show_their_tokens_and_count_as_javascript_does() -> None:
    run = synthetic_run(4, coloured=4)
    assert run.pairs is not None
    rows = run.pairs.to_pylist()
    rows[1] |= {
        "chosen_tokens": ["a👩", " b", "<eos>"],
        "chosen_ratios": [0.26, -99.0, float("inf")],
        "chosen": "a👩  b",
    }
    packed = pack_pairs(pa.Table.from_pylist(rows, run.pairs.schema), 4, 10**7)
    found, tokens, said = unpacked(packed.header, packed.blocks)
    assert (found[1]["chosen"], said[2]) == ("a👩  b", "a👩 b<eos>"), "the pair's own text is what a search looks in"
    assert tokens[2] == [(3, pytest.approx(0.26)), (2, pytest.approx(-99.0)), (5, pytest.approx(327.67))]


def test_a_string_is_packed_once() -> None:
    run = synthetic_run(50, coloured=0)
    assert run.pairs is not None
    same = run.pairs.set_column(3, "prompt", pa.array(["the same prompt"] * 50))
    units = {name: length for name, _, length in pack_pairs(same, 50, 10**7).header["numbers"]}["units"]
    assert units == 1 + 3 * 50


@pytest.mark.parametrize(
    ("prompts", "start", "end"),
    [
        (["<|user|>\nWhat is it?", "<|user|>\nWhat now?", "<|user|>\nWhy?"], 9, 0),
        (["<|user|>\nHow?<|end|>\n<|bot|>", "<|user|>\nWhy is it?<|end|>\n<|bot|>"], 9, 15),
        (["e1 e2 <sep>", "e11 e3 <sep>"], 0, 6),
        (["👩 says a", "👩 says b"], 8, 0),
        (["a 👩", "b 👩"], 0, 3),
        (["the same one"] * 2, 0, 0),
        # Nothing stands between what both begin and end with: a character is left out once.
        (["a b", "a c b"], 2, 0),
        (["one word", "another"], 0, 0),
    ],
)
def test_lists_leave_out_what_all_prompts_begin_and_end_with(prompts: list[str], start: int, end: int) -> None:
    run = synthetic_run(len(prompts), coloured=0)
    assert run.pairs is not None
    pairs = run.pairs.set_column(3, "prompt", pa.array(prompts))
    ends = {"start": start, "end": end}
    assert pack_pairs(pairs, len(prompts), 10**6).header["template"] == ends
    rows = tuple((Answer("yes", 1, True, None),) for _ in prompts)
    answers = Answers(("a",), 0, len(prompts), tuple(prompts), rows, scored=False)
    assert pack_answers(answers, 10**6).header["template"] == ends


@pytest.mark.parametrize("most", [400_000, 150_000, 40_000])
def test_pairs_stay_below_their_bytes_and_say_what_was_left_out(most: int) -> None:
    run = synthetic_run(600, words=170, coloured=60)
    assert run.pairs is not None
    whole = pack_pairs(run.pairs, 600, 10**7)
    assert whole.size > 400_000
    packed = pack_pairs(run.pairs, 600, most)
    assert packed.size <= most
    rows, tokens, _ = unpacked(packed.header, packed.blocks)
    texts = {row["example_id"]: row for row in run.pairs.to_pylist()}
    assert packed.header["cut"] > 0
    for row in rows:
        given = texts[row["id"]]["chosen"]
        assert given.startswith(row["chosen"])
        assert row["lost_chosen"] == len(given) - len(row["chosen"])
        assert row["tokens_round"] == 0 or row["lost_chosen"] == 0, "a coloured pair is whole"
    assert len(tokens) == 2 * packed.header["coloured"]
    if most == 400_000:
        assert (packed.header["pairs"], packed.header["coloured"]) == (600, 60)


@pytest.mark.parametrize("most", [-5_000_000, 0, 1, 100])
def test_no_room_for_a_pair_is_no_pair(most: int) -> None:
    run = synthetic_run(600, coloured=60)
    assert run.pairs is not None
    packed = pack_pairs(run.pairs, 600, most)
    assert (packed.header["pairs"], packed.header["total"], packed.header["coloured"]) == (0, 600, 0)
    assert unpacked(packed.header, packed.blocks) == ([], [], [])


def test_a_page_larger_than_its_limit_has_pairs_of_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SMALL", (5_000, 1_000))
    runs = [synthetic_run(2_000, words=80, name=name) for name in "ab"]
    found, _ = written(tmp_path, *runs)
    for place in range(2):
        assert 100 < json.loads(found.script(f"pairs-{place}"))["pairs"] <= 2_000
        blocks = [found.script(f"{name}-{place}") for name in ("numbers", "text", "tokens")]
        assert sum(map(len, blocks)) <= page.LEAST
    monkeypatch.setattr(page, "LEAST", 0)
    found, _ = written(tmp_path, *runs)
    assert json.loads(found.script("pairs-1"))["pairs"] == 0
    assert "None of the run's 2,000 pairs fits into the page" in " ".join(found.text("main"))


def test_colours_that_were_dropped_for_bytes_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SMALL", (5_000, 1_000))
    found, _ = written(tmp_path, synthetic_run(2_000, words=80, coloured=400))
    coloured = json.loads(found.script("pairs-0"))["coloured"]
    assert coloured < 400
    said = " ".join(found.text("main"))
    assert f"{400 - coloured} pairs have no token colours" in said
    assert "No pair has token colours" not in said


def test_charts_of_a_sample_say_so(one: tuple[Page, str], tmp_path: Path) -> None:
    found, _ = written(tmp_path, synthetic_run(total=123_456))
    said = " ".join(found.text("figcaption"))
    assert said.count("a sample of 200 of 123,456 pairs") == 3
    assert "Margins in nats, of a sample of 200 of 123,456 pairs" in found.text("caption")
    assert "a sample of 200" not in " ".join(one[0].text("figcaption") + one[0].text("caption"))
    runs = [synthetic_run(total=123_456, name="a"), synthetic_run(name="b")]
    assert "of a sample of 200 of 123,456 pairs of a." in pair_charts(runs, Over(("a", "b")))[0].reading


@pytest.mark.parametrize(("pairs", "most"), [(0, 3.0), (5_000, 3.0), (100_000, 30.0), (10**6, 30.0)])
def test_pages_have_a_largest_size(pairs: int, most: float) -> None:
    assert 0.97 * most <= page._limit(pairs) / 1e6 < most


def test_5000_pairs_of_long_texts_stay_below_3_mb(tmp_path: Path) -> None:
    write_report([synthetic_run(5_000, words=150, coloured=200)], tmp_path / "report.html")
    assert 2_000_000 < (tmp_path / "report.html").stat().st_size < 3_000_000


def test_a_part_of_the_pairs_links_to_the_whole(tmp_path: Path) -> None:
    run = synthetic_run(total=123_456)
    run = replace(run, figures=replace(run.figures, run=str(tmp_path / "a run")))
    (tmp_path / "compared").mkdir()
    write_report([run], tmp_path / "compared" / "report.html")
    found = Page((tmp_path / "compared" / "report.html").read_text(encoding="utf-8"))
    assert "The page holds 200 of the run's 123,456 pairs." in " ".join(found.text("main"))
    assert "../a%20run/data/pairs.arrow" in [attributes["href"] for attributes in found.all("a")]


def test_the_same_contents_give_the_same_bytes_and_replace_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older report")
    write_report([synthetic_run()], path)
    first = path.read_bytes()
    write_report([synthetic_run()], path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


# The charts' figures


def four_pairs() -> RunContents:
    """Round 2 scored four offline pairs and kept three; round 3 one more that was generated."""
    run = synthetic_run(5, coloured=0)
    assert run.pairs is not None
    rows = run.pairs.to_pylist()
    margins = [(-1.0, 0.5), (1.0, 2.0), (2.0, 3.0), (4.0, 5.0), (None, 1.0)]
    for row, pair, longer in zip(rows, margins, (0, 1, 2, 3, 4), strict=True):
        row |= {"margins": list(pair), "chosen_length": 10 + longer, "rejected_length": 10}
        row["origin"] = "offline" if pair[0] is not None else "generated:3"
        row["kept"] = [None if margin is None else "kept" if margin > 0.9 else "below" for margin in pair]
    return replace(run, pairs=pa.Table.from_pylist(rows, run.pairs.schema))


def test_margins_are_counted_once_each_by_round_and_fate() -> None:
    run = four_pairs()
    second, third = reviews(run)
    assert (second.index, third.index) == (2, 3)
    assert second.margin.tolist() == [-1.0, 1.0, 2.0, 4.0]
    assert third.generated.tolist() == [False] * 4 + [True]
    margins, lengths, _ = pair_charts([run], Over((run.name,)))
    assert margins.table is not None
    assert margins.table.rows[0] == ("round 2", "4", "3", "0", "2.00", "−1.00", "25.0%")
    assert margins.table.rows[1] == ("round 3", "5", "4", "1", "2.50", "0.50", "0.0%")
    bars = [row for panel in margins.panels for row in panel.spec["data"]["values"]]
    counts = {name: sum(row["n"] for row in bars if row["series"] == name) for name in {row["series"] for row in bars}}
    assert counts == {"trained on, offline": 6, "trained on, generated": 1, "dropped": 2}
    for row in bars:
        assert row["low"] < row["high"]
        assert row["above"] - row["below"] == row["n"]
    # -1, 1, 2, 4 against 0, 1, 2, 3: covariance 2, deviations 2.0817 and 1.2910 (both by n - 1: 8 / 3 / ...).
    assert correlation(second.longer, second.margin) == pytest.approx(0.99227788)
    assert lengths.table is not None
    assert lengths.table.rows[0][1:3] == ("+0.99", "+0.98")


def test_how_much_longer_the_chosen_answers_are_of_generated_and_offline_pairs() -> None:
    """Round 3 keeps three offline pairs that are longer by 1, 2 and 3 and the generated one, by 4."""
    (shown,) = generated_charts([four_pairs()], Over(("run",)))
    assert shown.table is not None
    assert [panel.title for panel in shown.panels] == ["Round 3"]
    assert shown.table.rows == (("round 3", "1", "100.0%", "+4.0", "3", "100.0%", "+2.0"),)
    values = shown.panels[0].spec["data"]["values"]
    assert {row["low"] for row in values if row["series"] == "generated" and row["share"] == 1.0} == {4.0}
    assert sum(row["share"] for row in values if row["series"] == "offline") == pytest.approx(1.0, abs=1e-4)
    runs = [synthetic_run(name="a"), synthetic_run(name="b", seed=1)]
    (compared,) = generated_charts(runs, Over(("a", "b")))
    assert [key.label for key in compared.legend[:2]] == ["a", "b"]
    (nothing,) = generated_charts([replace(four_pairs(), pairs=None)], Over(("run",)))
    assert nothing.panels == ()


def test_far_margins_share_the_outermost_bar() -> None:
    run = synthetic_run(3000, rounds=2, coloured=0)
    assert run.pairs is not None
    rows = run.pairs.to_pylist()
    rows[7]["margins"] = [1e6]
    run = replace(run, pairs=pa.Table.from_pylist(rows, run.pairs.schema))
    margins, lengths, _ = pair_charts([run], Over((run.name,)))
    bars = margins.panels[0].spec["data"]["values"]
    assert sum(row["n"] for row in bars) == 3000
    assert max(row["high"] for row in bars) < 20
    points = lengths.panels[0].spec["data"]["values"]
    assert len(points) <= 500
    assert max(point["y"] for point in points) < 20


def test_compared_runs_are_told_apart_by_colour_and_their_series_by_dashes() -> None:
    runs = [synthetic_run(name="a"), synthetic_run(name="b", seed=1)]
    margins = pair_charts(runs, Over(("a", "b")))[0]
    lines = margins.panels[0].spec["layer"][0]["encoding"]
    assert lines["color"]["scale"] == {"domain": ["a", "b"], "range": ["var(--run-1)", "var(--run-2)"]}
    assert lines["strokeDash"]["scale"] == {"domain": ["trained on", "scored"], "range": [[1, 0], [4, 3]]}
    for name in ("a", "b"):
        shares = [
            row["share"]
            for row in margins.panels[0].spec["data"]["values"]
            if (row["run"], row["series"]) == (name, "trained on")
        ]
        assert sum(shares) == pytest.approx(1.0, abs=1e-3)


def test_rows_are_thinned_evenly_and_ranges_have_air() -> None:
    assert thinned(list(range(11)), 3) == [0, 5, 10]
    assert thinned([1, 2], 3) == [1, 2]
    assert spread([0.0, 1.0]) == pytest.approx((-0.06, 1.06))
    assert spread([2.0, 2.0]) == (1.5, 2.5)
    assert correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.25, "0.2 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_calibration_of_the_policies() -> None:
    """A panel for each policy with margins, its bins as points, and the same figures as a table."""
    run = synthetic_run()
    (chart,) = calibration_charts([run], Over((run.name,)))
    assert [panel.title for panel in chart.panels] == [policy.title for policy in run.figures.policies[1:]]
    points = chart.panels[0].spec["data"]["values"]
    assert [(point["predicted"], point["observed"], point["pairs"]) for point in points] == [
        (0.55, 0.56, 200),
        (0.95, 0.8, 200),
    ]
    assert points[1]["between"] == "90% to 100%"
    assert chart.table is not None
    assert chart.table.rows[0][1:] == ("400", "0.200 ± 0.010", "0.080")
    several = calibration_charts([run, replace(run, name="other")], Over((run.name, "other")))[0]
    assert len(several.panels) == len(chart.panels)
    assert len(several.panels[0].spec["data"]["values"]) == 4
    assert calibration_charts([changed(run, calibration=None)], Over((run.name,))) == []

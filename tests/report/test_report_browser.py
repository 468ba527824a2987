"""The report in headless Chromium: nothing fails, nothing is requested, every filter works, everybody can use it."""

from __future__ import annotations

import copy
import importlib.resources
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from synthetic import synthetic_run, with_columns, with_texts

from seralign.report.answers import Answer, Answers, Judged
from seralign.report.contents import RunContents
from seralign.report.page import write_report
from seralign.report.record import RunFigures

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
if CHROMIUM is None:
    pytest.skip("no browser: install Debian's package chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")

NASTY = "<b>bold</b> \u202eright to left\u202c \x1b[31m </script> 👩\u200d💻 {{ 7 }}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class View:
    """A page that is open, and all that went wrong on it."""

    def __init__(self, browser: Any, path: Path, target: str = "", **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", lambda request: self.wrong.append(f"request: {request.url[:200]}"))
        self.page.goto(path.as_uri() + target)
        assert self.wrong.pop(0).split("#")[0] == f"request: {path.as_uri()[:200]}"

    def ready(self) -> Any:
        """The page, its charts drawn and its pairs unpacked."""
        self.page.locator("#pairs").scroll_into_view_if_needed()
        if self.page.locator("#list").count():
            self.page.wait_for_selector("#list[data-ready]")
        until(self.page, "!document.querySelector('[data-chart]:not([data-drawn])')")
        return self.page


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true. Playwright's own waiting makes code of a string, which the page forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never came true: {expression}")


def saved(folder: Path, *runs: RunContents) -> Path:
    write_report(runs, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def run() -> RunContents:
    """Its first pair has untrusted texts; pairs 0, 23 and so on to 299 have token colours but the first.

    Offline pairs have an annotator and a note, each note another; NASTY is the first of both, and has a column too.
    """
    made = synthetic_run(300, rounds=4, coloured=14)
    people, notes = [NASTY, "ann", "bob"], [NASTY, *(f"Note {at}" for at in range(1, 225))]
    columns = {"annotator": [*(people[at % 3] for at in range(225)), *[None] * 75], "note": [*notes, *[None] * 75]}
    made = with_columns(made, **columns, **{NASTY: ["x"] * 300})
    return with_texts(made, prompt=NASTY, chosen=NASTY, rejected="")


@pytest.fixture(scope="module")
def view(browser: Any, run: RunContents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    found = View(browser, saved(tmp_path_factory.mktemp("view"), run))
    found.ready()
    yield found
    found.context.close()


@pytest.fixture
def page(view: View) -> Iterator[Any]:
    """The shared page, all filters as at the start; nothing may have gone wrong on it afterwards."""
    view.page.evaluate("document.getElementById('count').textContent = ''")
    view.page.click("button[type=reset]")
    until(view.page, "document.getElementById('count').textContent.startsWith('300 of')")
    yield view.page
    assert view.wrong == []


# More rows than a list of its usual height ever shows.
MOST_ROWS = 60


def count(page: Any) -> int:
    return int(page.locator("#count").inner_text().split(" of ")[0].replace(",", ""))


def column(page: Any, place: int) -> list[str]:
    """The texts of a column of all matching rows, in order."""
    page.evaluate("document.getElementById('list').style.height = '20000px'")
    until(
        page,
        "document.querySelectorAll('#grid-body tr:not(.space)').length"
        " === Number(document.getElementById('grid').getAttribute('aria-rowcount')) - 1",
    )
    texts = page.locator(f"#grid-body tr:not(.space) td:nth-child({place})").all_text_contents()
    page.evaluate("document.getElementById('list').style.height = ''")
    until(page, f"document.querySelectorAll('#grid-body tr').length < {MOST_ROWS}")
    return texts


def last_margin(row: dict[str, Any]) -> tuple[float, float]:
    """A pair's last margin, and its change since the round before; NaN where there is none."""
    seen = [margin for margin in row["margins"] if margin is not None]
    return (seen[-1] if seen else math.nan), (seen[-1] - seen[-2] if len(seen) > 1 else math.nan)


def rows_of(run: RunContents) -> list[dict[str, Any]]:
    assert run.pairs is not None
    return run.pairs.to_pylist()


# All kinds of reports


@pytest.mark.parametrize("kind", ["two", "one round", "empty"])
def test_nothing_fails_and_nothing_is_requested(kind: str, browser: Any, tmp_path: Path) -> None:
    single = synthetic_run(60, rounds=1)
    bare = RunContents("bare", single.config, RunFigures("runs/bare", "dpo"), {}, None, 0, ())
    runs = {"two": [synthetic_run(60), synthetic_run(90, name="b", seed=1)], "one round": [single], "empty": [bare]}
    found = View(browser, saved(tmp_path, *runs[kind]))
    page = found.ready()
    charts = page.locator("[data-chart]")
    assert (charts.count() > 0) == (kind != "empty")
    for box in (charts.nth(place).locator("svg").bounding_box() for place in range(charts.count())):
        assert box["width"] > 100
        assert box["height"] > 60
    if kind == "one round":
        assert page.locator("#f-round option").all_text_contents() == ["last that had it", "round 1"]
        page.select_option("#f-round", "1")
        page.select_option("#f-kept", label="trained on")
        assert count(page) == 60
        assert set(column(page, 9)) == {"trained on"}
        assert set(column(page, 5)) == {"–"}
        assert "Round 1 trained on it" in page.locator("#pair").inner_text()
    if kind == "two":
        assert count(page) == 60
        page.select_option("#f-run", label="b")
        until(page, "document.getElementById('count').textContent.startsWith('90 of')")
    found.context.close()
    assert found.wrong == []


def test_a_script_that_came_in_would_not_run(browser: Any, run: RunContents, tmp_path: Path) -> None:
    found = View(browser, saved(tmp_path, run))
    found.page.evaluate("""() => {
        const script = document.createElement("script");
        try { script.textContent = "window.came = 1"; } catch { window.refused = 1; }
        document.body.append(script);
    }""")
    assert found.page.evaluate("[window.came ?? 0, window.refused]") == [0, 1]
    assert found.page.evaluate("fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"
    found.context.close()
    assert any("Content Security Policy" in line for line in found.wrong)


def test_without_scripts_the_figures_are_still_there(browser: Any, run: RunContents, tmp_path: Path) -> None:
    found = View(browser, saved(tmp_path, run), java_script_enabled=False)
    assert found.page.locator("#summary .tiles .value").first.is_visible()
    assert found.page.locator("#count").inner_text().startswith("The list of pairs needs JavaScript")
    assert not found.page.locator("#filters").is_visible()
    assert found.page.locator("#margins noscript").inner_text().startswith("The charts need JavaScript")
    found.context.close()


def unfinished() -> RunContents:
    """Round 3 has selected and is not trained; the tokens of the first coloured pair end with a special one."""
    run = synthetic_run(80, coloured=4)
    assert run.pairs is not None
    rows = run.pairs.to_pylist()
    for row in rows:
        row["kept"][1] = "selected" if row["kept"][1] == "kept" else row["kept"][1]
        row["prompt"] = f"<|user|> {row['prompt']}"
    first = next(row for row in rows if row["tokens_round"] is not None)
    first["chosen_tokens"].append("<eos>")
    first["chosen_ratios"].append(0.5)
    changed = copy.copy(run)
    object.__setattr__(changed, "pairs", pa.Table.from_pylist(rows, run.pairs.schema))
    return changed


def test_a_round_that_was_not_trained_has_selected_and_no_special_token_is_found(browser: Any, tmp_path: Path) -> None:
    run = unfinished()
    rows = rows_of(run)
    found = View(browser, saved(tmp_path, run))
    assert "JavaScript" not in found.page.locator("#count").inner_text()
    page = found.ready()
    options = page.locator("#f-kept option").all_text_contents()
    assert options == ["all", "trained on", "selected", "dropped", "below the top 70%"]
    page.select_option("#f-round", "3")
    for choice, wanted in (("selected", "selected"), ("dropped", "below the top 70%")):
        page.select_option("#f-kept", choice)
        assert count(page) == sum(row["kept"][1] == wanted for row in rows) > 0
        assert set(column(page, 9)) == {wanted}
    page.select_option("#f-kept", "kept")
    assert count(page) == 0
    assert page.locator("#grid-body .none").inner_text() == "No pair matches"
    assert not page.locator("#pair").is_visible(), "it would be a pair that does not match"
    page.click("button[type=reset]")
    until(page, "document.getElementById('count').textContent.startsWith('80 of')")
    assert page.locator("#start").inner_text() == "All prompts begin with “<|user|> ”, left out in the list."
    assert not column(page, 1)[0].startswith("<|user|>")
    assert page.locator("[data-sort=disagreement]").inner_text() == "Disagreement"
    page.select_option("#f-round", "2")
    assert page.locator("[data-sort=disagreement]").inner_text() == "Disagreement, last round"
    page.fill("#f-search", "<EOS>")
    until(page, "document.getElementById('count').textContent.startsWith('0 of')")
    first = next(row for row in rows if row["tokens_round"] is not None)
    page.fill("#f-search", first["example_id"])
    until(page, "document.getElementById('count').textContent.startsWith('1 of')")
    page.click("#row-0 td")
    until(page, "!document.getElementById('pair').hidden")
    assert page.locator("#pair .side.chosen .t").last.evaluate("one => one.firstChild.data") == "<eos>"
    found.context.close()
    assert found.wrong == []


@pytest.mark.parametrize("target", ["pairs", "costs"])
def test_a_link_into_the_page_lands_where_it_says(target: str, browser: Any, run: RunContents, tmp_path: Path) -> None:
    found = View(browser, saved(tmp_path, run), f"#{target}")
    until(found.page, "!document.querySelector('[data-chart]:not([data-drawn])')")
    until(found.page, "document.getElementById('list').dataset.ready !== undefined || location.hash !== '#pairs'")
    top = found.page.locator(f"#{target}").bounding_box()["y"]
    assert 30 < top < 90, "below the bar, and near it"
    found.context.close()


# The explorer


def test_every_filter_lets_through_what_it_says(page: Any, run: RunContents) -> None:
    rows = rows_of(run)
    for value, label in enumerate(["offline", "generated:2", "generated:3", "generated:4"]):
        page.select_option("#f-origin", str(value))
        assert count(page) == sum(row["origin"] == label for row in rows) > 0
    page.select_option("#f-origin", "-1")
    for index in (2, 3, 4):
        page.select_option("#f-round", str(index))
        page.select_option("#f-kept", "all")
        assert count(page) == sum(row["margins"][index - 2] is not None for row in rows)
        page.select_option("#f-kept", "kept")
        assert count(page) == sum(row["kept"][index - 2] == "kept" for row in rows) > 0
        for choice in ("dropped", "below the top 70%"):
            page.select_option("#f-kept", choice)
            assert count(page) == sum(row["kept"][index - 2] == "below the top 70%" for row in rows) > 0
    page.select_option("#f-round", "0")
    page.select_option("#f-kept", "dropped")
    last = [[kept for kept in row["kept"] if kept is not None][-1] for row in rows]
    assert count(page) == sum(kept != "kept" for kept in last)
    page.select_option("#f-kept", "all")
    page.check("#f-coloured")
    assert count(page) == sum(row["tokens_round"] is not None for row in rows) == 13
    page.uncheck("#f-coloured")
    page.fill("#f-low", "0.75")
    page.fill("#f-high", "0.9")
    until(page, "!document.getElementById('count').textContent.startsWith('300 of')")
    assert count(page) == sum(0.75 <= row["p"] <= 0.9 for row in rows) > 0
    page.click("button[type=reset]")
    until(page, "document.getElementById('count').textContent.startsWith('300 of')")


def test_columns_of_the_source_are_filters_or_searched_and_shown_with_the_pair(page: Any, run: RunContents) -> None:
    rows = rows_of(run)
    visible = NASTY.replace("\u202e", "⟨U+202E⟩").replace("\u202c", "⟨U+202C⟩").replace("\x1b", "⟨␛⟩")
    assert page.locator("#f-carried label").count() == 2, "a note is different in each pair: no filter"
    choose = page.locator("#f-carried select").nth(0)
    assert choose.locator("option").all_text_contents() == ["all", visible, "ann", "bob", "no value"]
    for label, value in (("ann", "ann"), (visible, NASTY), ("no value", None)):
        choose.select_option(label=label)
        assert count(page) == sum(row["carried.annotator"] == value for row in rows) > 0
    choose.select_option(label="bob")
    page.select_option("#f-origin", "1")
    assert count(page) == 0, "no generated pair has an annotator"
    page.select_option("#f-origin", "0")
    of_bob = [row for row in rows if row["carried.annotator"] == "bob"]
    until(page, f"document.getElementById('pair-title')?.textContent === '{of_bob[0]['example_id']}'")
    shown = page.locator("#pair .carried > div")
    assert [one.locator("dt").text_content() for one in shown.all()] == ["annotator", "note", visible]
    assert [one.locator("dd").text_content() for one in shown.all()] == ["bob", "Note 2", "x"]
    page.click("button[type=reset]")
    until(page, "document.getElementById('count').textContent.startsWith('300 of')")
    page.fill("#f-search", "NOTE 22")
    until(page, "document.getElementById('count').textContent.startsWith('6 of')")
    assert page.locator("#pair .carried dd").nth(1).text_content() == "Note 22"
    page.select_option("#f-origin", "1")
    page.fill("#f-search", "")
    until(page, "document.querySelector('#pair .carried dd')?.textContent === '–'")


def test_the_pair_that_is_shown_is_the_first_of_the_filtered_list(page: Any, run: RunContents) -> None:
    rows = rows_of(run)

    def shown(example_id: str) -> None:
        until(page, f"document.getElementById('pair-title')?.textContent === '{example_id}'")
        assert page.locator("#grid-body [aria-selected=true]").get_attribute("id") == "row-0"

    page.click("#row-4 td")
    until(page, f"document.getElementById('pair-title')?.textContent === '{rows[4]['example_id']}'")
    page.select_option("#f-origin", "2")
    shown(next(row["example_id"] for row in rows if row["origin"] == "generated:3"))
    page.check("#f-coloured")
    shown(next(row["example_id"] for row in rows if row["origin"] == "generated:3" and row["tokens_round"] is not None))
    page.fill("#f-search", "no pair says this")
    until(page, "document.getElementById('count').textContent.startsWith('0 of')")
    assert not page.locator("#pair").is_visible()
    page.fill("#f-search", "")
    until(page, "!document.getElementById('pair').hidden")
    page.select_option("#f-sort", "margin")
    page.uncheck("#f-coloured")
    made = [row for row in rows if row["origin"] == "generated:3"]
    shown(max(made, key=lambda row: last_margin(row)[0])["example_id"])


def test_search_finds_text_in_any_case_and_ids(page: Any, run: RunContents) -> None:
    rows = rows_of(run)
    word = rows[20]["chosen"].split()[2]
    texts = [[row[name].lower() for name in ("example_id", "prompt", "chosen", "rejected")] for row in rows]
    for query in (word.upper(), rows[33]["example_id"], "</SCRIPT>", "no such text"):
        page.fill("#f-search", query)
        wanted = sum(any(query.lower() in text for text in of_row) for of_row in texts)
        until(page, f"document.getElementById('count').textContent.startsWith('{wanted} of')")
        assert count(page) == wanted
    page.fill("#f-search", "")


@pytest.mark.parametrize(("key", "place"), [("margin", 5), ("change", 6), ("disagreement", 7), ("longer", 4), ("p", 3)])
def test_orders_are_by_number_both_ways_and_what_has_none_comes_last(
    page: Any, run: RunContents, key: str, place: int
) -> None:
    rows = rows_of(run)
    values = {
        "margin": [last_margin(row)[0] for row in rows],
        "change": [last_margin(row)[1] for row in rows],
        "disagreement": [row["disagreement"] for row in rows],
        "longer": [row["chosen_length"] - row["rejected_length"] for row in rows],
        "p": [row["p"] for row in rows],
    }[key]
    for direction, sign in (("descending", -1), ("ascending", 1)):
        page.click(f"#grid-head th[data-sort={key}] button")
        assert page.get_attribute(f"#grid-head th[data-sort={key}]", "aria-sort") == direction
        assert page.input_value("#f-sort") == key
        order = sorted(range(len(rows)), key=lambda at: (math.isnan(values[at]), sign * values[at], at))
        shown = [text.replace("−", "-").replace("+", "") for text in column(page, place)]
        digits = 0 if key == "longer" else 2
        wanted = ["–" if math.isnan(values[at]) else f"{values[at]:.{digits}f}" for at in order]
        close = [a == b or abs(float(a) - float(b)) < 0.011 for a, b in zip(shown, wanted, strict=True)]
        assert all(close)
        assert ("–" in shown) == any(map(math.isnan, values))


def test_the_order_of_the_run_can_be_turned_round_and_chosen_without_headings(page: Any) -> None:
    assert column(page, 1)[0].startswith("<b>bold</b>")
    page.click("#f-direction")
    assert column(page, 1)[-1].startswith("<b>bold</b>")
    page.select_option("#f-sort", "margin")
    assert page.get_attribute("#grid-head th[data-sort=margin]", "aria-sort") == "descending"
    page.click("#f-direction")
    assert page.get_attribute("#grid-head th[data-sort=margin]", "aria-sort") == "ascending"
    page.select_option("#f-sort", "run")
    assert column(page, 1)[0].startswith("<b>bold</b>")
    page.click("#grid-head th[data-sort=run] button")
    assert column(page, 1)[-1].startswith("<b>bold</b>")


def test_only_rows_that_can_be_seen_are_elements(page: Any) -> None:
    assert page.locator("#grid-body tr").count() < MOST_ROWS
    page.evaluate("document.getElementById('list').scrollTop = 1e6")
    page.wait_for_selector("#row-299")
    assert page.locator("#grid-body tr").count() < MOST_ROWS
    assert page.get_attribute("#row-299", "aria-rowindex") == "301"
    assert page.get_attribute("#grid", "aria-rowcount") == "301"


def test_text_that_nobody_may_trust_is_shown_as_it_is(page: Any) -> None:
    page.click("#row-0 td")
    page.wait_for_selector("#pair .side.rejected")
    marks = page.locator("#pair .side.chosen .mark").all_text_contents()
    assert marks == ["U+202E", "U+202C", "␛"]
    text = page.locator("#pair .side.chosen .text").inner_text()
    assert "<b>bold</b>" in text
    assert "</script>" in text
    assert "👩\u200d💻 {{ 7 }}" in text
    assert not {"\u202e", "\x1b"} & set(page.locator("body").inner_text())
    assert page.locator("#pair b").count() == 0
    assert page.locator("#pair bdi.text[dir=auto]").count() == 3
    assert "(empty)" in page.locator("#pair .side.rejected").inner_text()
    assert "⟨U+202E⟩right to left" in page.locator("#row-0 td").first.inner_text()


def test_tokens_are_coloured_and_say_their_figures(page: Any, run: RunContents) -> None:
    row = next(row for row in rows_of(run) if row["tokens_round"] is not None)
    page.fill("#f-search", row["example_id"])
    until(page, "document.getElementById('count').textContent.startsWith('1 of')")
    page.click("#row-0 td")
    until(page, f"document.getElementById('pair-title')?.textContent === '{row['example_id']}'")
    for side in ("chosen", "rejected"):
        tokens = page.locator(f"#pair .side.{side} .t")
        assert tokens.count() == len(row[f"{side}_tokens"])
        assert "".join(tokens.evaluate_all("all => all.map((one) => one.firstChild.data)")) == row[side]
        for place, ratio in enumerate(row[f"{side}_ratios"]):
            ratio = round(ratio / 0.01) * 0.01
            size = abs(ratio)
            step = 0 if size < 0.25 else 1 if size < 0.75 else 2 if size < 2 else 3
            assert tokens.nth(place).get_attribute("class").split() == [
                "t",
                *([f"{'ud'[ratio < 0]}{step}"] if step else []),
            ]
            said = tokens.nth(place).get_attribute("title").replace("−", "-")
            assert float(said.removesuffix(" nats")) == pytest.approx(ratio, abs=1e-6)
    assert f"policy of round {row['tokens_round']} to reference" in page.locator("#pair .scale").inner_text()
    assert page.locator("#pair .d2").first.evaluate("one => getComputedStyle(one).textDecorationLine") == "underline"
    assert not page.locator("#pair .side .t sub").first.is_visible()
    page.check("#with-figures")
    assert page.locator("#pair .side .t sub").first.is_visible()
    page.uncheck("#with-figures")
    page.fill("#f-search", "")


def test_margins_by_round_are_a_line_and_a_table(page: Any, run: RunContents) -> None:
    row = rows_of(run)[0]
    label = page.get_attribute("#row-0 svg", "aria-label").replace("−", "-")
    wanted = [f"{margin:.2f}" for margin in row["margins"]]
    assert label == f"margins {', '.join(wanted)}"
    assert page.locator("#row-0 svg circle").count() == 3
    page.click("#row-0 td")
    cells = page.locator("#pair .by-round tbody tr").first.locator("td").all_text_contents()
    assert [cell.replace("−", "-") for cell in cells] == wanted


# Answers


@pytest.fixture
def answers(page: Any) -> Any:
    """The shared page, the answers as at the start."""
    page.fill("#a-search", "")
    page.select_option("#a-order", "run")
    until(page, "document.getElementById('a-count').textContent === '1 of 12 prompts'")
    return page


def cards(page: Any) -> list[str]:
    """Of each answer its heading, figures and text, a line each."""
    return ["\n".join(text.split("\n\n")) for text in page.locator("#a-shown .answer").all_inner_texts()]


def test_the_answers_of_all_policies_stand_side_by_side(answers: Any) -> None:
    assert "Question 0?" in answers.locator("#a-shown .prompt").inner_text()
    first, second, *_, last = cards(answers)
    assert first.split("\n") == ["sft", "score 0.00 · 3 tokens", "sft says 0"]
    assert second.split("\n") == ["round 1", "score −4.00 (−4.00) · 3 tokens", "round 1 says 0"]
    assert last.split("\n")[:2] == ["round 4result", "score −16.00 (−16.00) · 3 tokens · cut off at the limit"]
    assert answers.locator(".answer.result").count() == 1
    tops = "[...document.querySelectorAll('#a-shown .answer')].map((one) => one.getBoundingClientRect().top)"
    assert len(set(answers.evaluate(tops)[:2])) == 1, "beside each other"


def test_prompts_are_chosen_by_buttons_list_search_and_order(answers: Any) -> None:
    assert answers.is_disabled("#a-previous")
    answers.click("#a-next")
    assert answers.locator("#a-count").inner_text() == "2 of 12 prompts"
    assert "Question 1?" in answers.locator("#a-shown .prompt").inner_text()
    assert answers.locator("#a-prompt option:checked").inner_text() == "2. 1?"
    assert answers.locator("#a-start").inner_text() == "All prompts begin with “Question ”, left out in the list."
    answers.select_option("#a-prompt", label="12. 11?")
    assert answers.is_disabled("#a-next")
    answers.click("#a-previous")
    assert "Question 10?" in answers.locator("#a-shown .prompt").inner_text()
    # Scores grow by 4 (prompt - 4) from start to result.
    answers.select_option("#a-order", "up")
    assert answers.locator("#a-prompt option").all_inner_texts()[:2] == ["12. 11?", "11. 10?"]
    assert "Question 11?" in answers.locator("#a-shown .prompt").inner_text(), "the first of the list is shown"
    answers.select_option("#a-order", "down")
    assert "Question 0?" in answers.locator("#a-shown .prompt").inner_text()
    answers.fill("#a-search", "ROUND 2 SAYS 1")
    until(answers, "document.getElementById('a-count').textContent === '1 of 3 prompts'")
    assert answers.locator("#a-prompt option").all_inner_texts() == [
        "2. 1?",
        "11. 10?",
        "12. 11?",
    ]
    answers.fill("#a-search", "nowhere")
    until(answers, "document.getElementById('a-count').textContent === 'No prompt matches'")
    assert not answers.locator("#a-shown").is_visible()
    assert answers.is_disabled("#a-next")
    assert answers.is_disabled("#a-prompt")


def test_answers_may_say_anything_and_runs_may_have_none(browser: Any, tmp_path: Path) -> None:
    plain = synthetic_run(60)
    assert plain.answers is not None
    judged = (Judged(0, 0.7, (0.9, 0.5), NASTY), Judged(0, None, None, None))
    row = (Answer("", 0, True, None), Answer(NASTY, 9, True, None, judged))
    nasty = Answers(("sft", NASTY), 1, 1, (NASTY,), (row,), False)
    found = View(browser, saved(tmp_path, replace(plain, answers=None), replace(plain, name="b", answers=nasty)))
    page = found.ready()
    until(page, "!document.getElementById('a-shown').hidden")
    assert page.locator("#a-run").count() == 0, "one run alone has answers"
    assert not page.locator("#a-order").is_visible(), "there are no scores"
    texts = cards(page)
    assert texts[0].split("\n") == ["sft", "0 tokens", "(empty)"]
    assert "<b>bold</b> U+202Eright" in texts[1]
    assert "against sft: 70.0% (shown first 90.0%, second 50.0%)" in texts[1]
    assert "against sft: no verdict" in texts[1]
    assert page.locator("#a-shown b").count() == 0
    found.context.close()
    assert found.wrong == []
    without = View(browser, saved(tmp_path, replace(plain, answers=None)))
    assert "No answers were sampled" in without.page.locator("#answers").inner_text()
    without.context.close()
    assert without.wrong == []


# Everybody


def test_the_keyboard_reaches_everything(browser: Any, run: RunContents, tmp_path: Path) -> None:
    found = View(browser, saved(tmp_path, run))
    page = found.ready()
    reached: list[str] = []
    for _ in range(120):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 30)")
        reached.append(name)
        if name == "Licences of the chart library":
            break
    assert "grid" in reached
    assert "All keys" in reached
    assert reached[0] == "To the content"
    assert "theme" in reached
    filters = ["f-search", "f-origin", "f-round", "f-kept", "f-low", "f-high", "f-sort", "f-direction", "f-coloured"]
    assert [name for name in reached if name.startswith("f-")] == filters
    assert [name for name in reached if name in ("Margin", "Change", "Disagreement")] == [
        "Margin",
        "Change",
        "Disagreement",
    ]
    assert any("figures of margins" in name for name in reached)
    page.focus("#grid")
    for key, place in (("Home", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 299), ("Home", 0)):
        page.keyboard.press(key)
        assert page.get_attribute("#grid", "aria-activedescendant") == f"row-{place}"
        assert page.get_attribute(f"#row-{place}", "aria-selected") == "true"
    page.keyboard.press("PageDown")
    assert 3 < int(page.get_attribute("#grid", "aria-activedescendant").removeprefix("row-")) < 20
    assert page.evaluate("document.activeElement.id") == "grid"
    found.context.close()
    assert found.wrong == []


def colour(page: Any, element: str, name: str) -> str:
    return page.locator(element).first.evaluate(f"one => getComputedStyle(one).{name}")


def test_dark_comes_from_the_system_or_the_switch_and_charts_follow(page: Any) -> None:
    mark = "#margins svg .mark-rect path"
    light = colour(page, "body", "backgroundColor"), colour(page, "body", "color"), colour(page, mark, "fill")
    page.emulate_media(color_scheme="dark")
    dark = colour(page, "body", "backgroundColor"), colour(page, "body", "color"), colour(page, mark, "fill")
    assert len({*light, *dark}) == 6
    page.click("#theme")
    assert page.locator("#theme").inner_text() == "Theme: light"
    assert (colour(page, "body", "backgroundColor"), colour(page, "body", "color")) == light[:2]
    page.emulate_media(color_scheme="light")
    page.click("#theme")
    assert (colour(page, "body", "backgroundColor"), colour(page, mark, "fill")) == (dark[0], dark[2])
    page.click("#theme")
    assert colour(page, "body", "backgroundColor") == light[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Any, scheme: str) -> None:
    axe = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.emulate_media(color_scheme=scheme)
    page.check("#f-coloured")
    page.click("#row-0 td")
    page.wait_for_selector("#pair .scale")
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    problems = [
        f"{rule['id']}: {node['html'][:200]} {node['any'][:1]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = false")
    page.emulate_media(color_scheme="light")
    assert problems == []
    assert len(found["passes"]) > 30


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, run: RunContents, tmp_path: Path) -> None:
    assert run.answers is not None
    # Prompts of chat models are long, and by default a list is as wide as its longest entry.
    long = tuple(f"{prompt} {'You are a helpful assistant. ' * 20}" for prompt in run.answers.prompts)
    run = replace(run, answers=replace(run.answers, prompts=long))
    found = View(browser, saved(tmp_path, run), viewport={"width": 390, "height": 844}, has_touch=True)
    page = found.ready()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for width in (390, 600):
        page.set_viewport_size({"width": width, "height": 844})
        boxes = [page.locator(one).bounding_box() for one in ("#f-direction", ".check", "#f-sort", ".row:has(#f-low)")]
        for place, one in enumerate(boxes):
            for other in boxes[:place]:
                apart = one["x"] >= other["x"] + other["width"] or other["x"] >= one["x"] + one["width"]
                assert apart or one["y"] >= other["y"] + other["height"] or other["y"] >= one["y"] + one["height"]
    # The menu: all of its entries can be seen, and none lies over another.
    for width in (390, 360, 320):
        page.set_viewport_size({"width": width, "height": 844})
        boxes = [one.bounding_box() for one in page.locator(".bar a").all()]
        assert len(boxes) == 5
        for place, one in enumerate(boxes):
            assert one["x"] >= 0
            assert one["x"] + one["width"] <= width
            for other in boxes[:place]:
                assert one["x"] >= other["x"] + other["width"] or one["y"] >= other["y"] + other["height"]
    page.set_viewport_size({"width": 390, "height": 844})
    until(page, "document.querySelector('#summary .scroll').classList.contains('wider')")
    hint = "getComputedStyle(document.querySelector('#summary .scroll'), '::before').content"
    assert "Scroll sideways" in page.evaluate(hint)
    page.tap("#row-1 td")
    until(page, "Math.abs(document.getElementById('pair').getBoundingClientRect().top - 60) < 60")
    assert page.locator("#pair .sides").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    first, second = (page.locator(f"#pair .side.{side}").bounding_box() for side in ("chosen", "rejected"))
    assert second["y"] >= first["y"] + first["height"], "one below the other"
    assert page.locator("#grid-head th:visible").count() == 3
    found.context.close()
    assert found.wrong == []


RIGHT_ENDS = "[...document.querySelectorAll('figure svg')].map((one) => one.getBoundingClientRect().right)"


def test_the_last_run_asked_for_is_the_one_shown(browser: Any, tmp_path: Path) -> None:
    runs = [synthetic_run(count, name=name, seed=count) for count, name in ((60, "a"), (3000, "b"), (90, "c"))]
    found = View(browser, saved(tmp_path, *runs))
    page = found.ready()
    page.evaluate(
        """() => {
          const select = document.getElementById("f-run");
          for (const run of ["1", "2", "0"]) { select.value = run; select.dispatchEvent(new Event("change")); }
        }"""
    )
    page.wait_for_timeout(1000)
    assert page.locator("#count").inner_text() == "60 of 60 pairs"
    assert page.locator(".about:visible").get_attribute("data-run") == "0"
    assert runs[0].pairs is not None
    first = runs[0].pairs["example_id"][0].as_py()
    assert page.locator("#pair-title").inner_text() == first
    page.fill("#f-search", first)
    until(page, "document.getElementById('count').textContent.startsWith('1 of 60')")
    page.select_option("#f-run", label="c")
    until(page, "document.getElementById('count').textContent.startsWith('0 of 90')")
    assert not page.locator("#pair").is_visible(), "it would be a pair of the run before"
    page.click("button[type=reset]")
    until(page, "document.getElementById('count').textContent.startsWith('90 of 90')")
    page.click("#row-0 td")
    until(page, "!document.getElementById('pair').hidden")
    found.context.close()
    assert found.wrong == []


def test_print_has_the_charts_within_the_paper_and_no_controls(view: View, page: Any) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})  # A4
    # Charts follow their places' widths after a frame or two.
    until(page, f"Math.max(...{RIGHT_ENDS}) <= 794")
    for gone in (".bar", "#filters", "#list"):
        assert not page.locator(gone).is_visible()
    assert page.locator("#margins svg").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert page.pdf(format="A4").count(b"/Type /Page\n") >= 3
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(media="screen")

"""The page of an evaluation: what it says, and its filters in headless Chromium."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from seralign.intervals import Interval
from seralign.report.evaluation_page import ShownOutput, ShownPrompt, ShownVerdict, render
from seralign.report.evaluation_tables import notes
from seralign.runs.evaluated import CostFigures, EvaluationFigures, PairFigures, PolicyFigures, RatingFigures
from seralign.tables import Table

NASTY = "<b>bold</b> \u202eright to left\u202c </script> {{ 7 }}"
RATE = Interval(0.75, 0.5, 0.9, 4)
CONFIGURATION = Table("keys", ("key", "value"), (("out", "runs/e"),))


def policy(name: str) -> PolicyFigures:
    return PolicyFigures(name, f"{name}.json", 4, 0, 0, None, Interval(5.0, 4.0, 6.0, 4), None, 0.5, 0.25)


def pair(own: str, other: str) -> PairFigures:
    return PairFigures(own, other, 4, RATE, None, RATE, Interval(0.1, 0.0, 0.2, 4), RATE, 0, 1, 0)


FIGURES = EvaluationFigures(
    "server", "server m", 4, "b", tuple(map(policy, "abc")), (pair("a", "b"), pair("c", "b")), (),
    CostFigures(6, 600, 60, 1, 0.125, Interval(165.0, 150.0, 180.0, 4), Interval(0.03125, 0.03, 0.04, 4)), None,
)  # fmt: skip


def prompt(number: int, verdict: ShownVerdict) -> ShownPrompt:
    texts = (f"own {number}" + "x" * number, "theirs", NASTY)
    return ShownPrompt(f"Question {number}", tuple(ShownOutput(text, number != 0, 3) for text in texts), (verdict,))


PROMPTS = [
    prompt(0, ShownVerdict(0, 0.8, (0.9, 0.7), None, "Clear.", False)),
    prompt(1, ShownVerdict(0, 0.4, (0.6, 0.2), (1.0, 2.0), NASTY, False)),
    prompt(2, ShownVerdict(0, None, None, None, "Well ...", False)),
    prompt(3, ShownVerdict(0, 0.5, None, None, None, True)),
]


def test_ratings_beside_one_without_an_interval_say_so() -> None:
    def rated(name: str, low: float | None) -> RatingFigures:
        return RatingFigures(name, Interval(0.0, low, None if low is None else -low, 20), RATE)

    some = dataclasses.replace(FIGURES, ratings=(rated("a", None), rated("b", -1.0), rated("c", -1.0)))
    [said] = [note for note in notes(some) if "relative to" in note]
    assert said.startswith("The strengths of the other policies are relative to a too")
    for same in (None, -1.0):
        all_alike = dataclasses.replace(FIGURES, ratings=tuple(rated(name, same) for name in "abc"))
        assert not any("relative to" in note for note in notes(all_alike))


def test_what_the_page_says() -> None:
    text = render(FIGURES, PROMPTS, CONFIGURATION, "mine")
    assert "3 policies on 4 prompts, compared with b, judged by server." in text
    assert text.count("75.0% (50.0 to 90.0)") == 2 * (1 + 3), "a drawing and three columns of each pair"
    assert "+10.0 (+0.0 to +20.0)" in text
    assert "6 requests: 600 tokens of questions and 60 of answers, which cost 0.125. A prompt took 165.0" in text
    assert " ± 15.0 tokens, and 0.03125 (0.03 to 0.04) in money; 1 request without a report of tokens." in text
    assert "distinct-2" in text
    assert "without an interval" not in text
    alone = dataclasses.replace(pair("a", "b"), length_controlled=Interval(0.016, None, None, 4))
    few = render(dataclasses.replace(FIGURES, pairs=(alone,)), PROMPTS, CONFIGURATION, "mine")
    assert "1.6%" in few
    assert "without an interval: there are fewer than 10 prompts" in few
    assert '<path d="M50.0 4H90.0" class="ends"/><path d="M75.0 1v6" class="mean"/>' in text
    assert "bold</b>" not in text, "texts are only in the packed block"


def test_a_page_that_would_be_too_large_says_what_it_lacks() -> None:
    """Letters of 4 bits: 64 prompts of 1500 letters take 64 kB in base64, and of 600 letters 26 kB."""
    noise = random.Random(0)
    texts = ["".join(noise.choices("abcdefghijklmnop", k=5000)) for _ in range(64)]
    prompts = [ShownPrompt(text, (None, None, None), ()) for text in texts]
    whole = render(FIGURES, prompts, CONFIGURATION, "mine", most=1_000_000)
    cut = render(FIGURES, prompts, CONFIGURATION, "mine", most=50_000)
    few = render(FIGURES, prompts, CONFIGURATION, "mine", most=600)
    assert "To keep the file small" not in whole
    assert "64 texts are cut to 600 characters" in cut
    assert re.search(r"The page holds \d of the 64 prompts", few)
    for text, most in ((whole, 1_000_000), (cut, 50_000), (few, 600)):
        [block] = re.findall(r'id="e-block">([^<]*)<', text)
        assert len(block) <= most
    [header] = re.findall(r'id="e-header">([^<]*)<', cut)
    assert json.loads(header)["pairs"] == [[0, 1], [2, 1]]


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no browser: install Debian's package chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(FIGURES, PROMPTS, CONFIGURATION, "mine"), encoding="utf-8")
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = browser.new_page()
        wrong: list[str] = []
        found.on("console", lambda message: wrong.append(message.text))
        found.on("pageerror", lambda error: wrong.append(str(error)))
        found.on("request", lambda request: wrong.append(request.url[:200]))
        found.goto(path.as_uri())
        found.wait_for_selector("#e-shown[data-ready]")
        yield found
        assert wrong == [path.as_uri()]
        browser.close()


@pytest.mark.parametrize(
    ("verdict", "order", "search", "numbers"),
    [
        ("all", "given", "", [1, 2, 3, 4]),
        ("win", "given", "", [1]),
        ("loss", "given", "", [2]),
        ("tie", "given", "", [4]),
        ("split", "given", "", [2]),
        ("none", "given", "", [3]),
        ("all", "best", "", [1, 4, 2, 3]),
        ("all", "worst", "", [2, 4, 1, 3]),
        ("all", "longer", "", [4, 3, 2, 1]),
        ("all", "given", "OWN 2", [3]),
        ("win", "given", "own 2", []),
    ],
)
def test_filters_and_orders(page: Any, verdict: str, order: str, search: str, numbers: list[int]) -> None:
    page.select_option("#e-verdict", verdict)
    page.select_option("#e-order", order)
    page.fill("#e-search", search)
    page.wait_for_timeout(200)
    names = page.locator("#e-prompt option").all_inner_texts()
    assert [int(name.split(".")[0]) for name in names] == numbers
    assert page.locator("#e-shown").is_visible() == bool(numbers)


def test_a_prompt_side_by_side_with_its_verdict(page: Any) -> None:
    page.select_option("#e-verdict", "all")
    page.select_option("#e-order", "given")
    page.fill("#e-search", "")
    page.wait_for_timeout(200)
    shown = page.locator("#e-shown")
    told = shown.inner_text()
    assert "a against b: 80.0% · a shown first 90.0%, shown second 70.0%" in told
    assert "cut off at the limit" in told
    assert shown.locator(".answer.result h3").inner_text().startswith("a")
    page.click("#e-next")
    assert "scores 1.00 and 2.00" in shown.inner_text()
    assert shown.locator(".answer.result h3").inner_text().startswith("b")
    assert shown.locator(".judged b").count() == 0, "the judge's words are text"
    page.click("#e-next")
    assert "a against b: no verdict" in shown.inner_text()
    page.click("#e-next")
    assert "both texts are the same" in shown.inner_text()
    assert page.locator("#e-next").is_disabled()
    page.select_option("#e-pair", "1")
    assert shown.locator(".cards").first.locator("h3").all_inner_texts() == ["c", "b"]
    assert page.evaluate("document.querySelectorAll('#e-shown b').length") == 0

"""What a report costs: its size, the time to write it, and how quick it is in a browser.

    python -m benchmarks.report --json FILE

Made-up runs of 5,000 and 100,000 pairs (four rounds, responses of 60 words, 400 pairs with token colours), opened from
the disk in headless Chromium. A figure of the browser is the median of the repetitions: first paint and the time until
the pairs can be searched since the page was opened; a sort, a search and a filter from the event to the drawn list.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from seralign.report.page import write_report
from tests.report.synthetic import synthetic_run

SIZES = (5_000, 100_000)

# Each asks for another list than the one before; the time is that until the next frame after the list is drawn.
_TIMED = """async (work) => {
    const began = performance.now();
    const before = document.getElementById('count').textContent + document.getElementById('grid-body').textContent;
    const at = (id) => document.getElementById(id);
    if (work === 'sort') { at('f-sort').value = 'margin'; at('f-sort').dispatchEvent(new Event('change')); }
    if (work === 'filter') { at('f-kept').value = 'dropped'; at('f-kept').dispatchEvent(new Event('change')); }
    if (work.startsWith('search')) {
        at('f-search').value = work.split(':')[1];
        at('f-search').dispatchEvent(new Event('input'));
    }
    while (before === at('count').textContent + at('grid-body').textContent) {
        if (performance.now() - began > 60000) throw new Error(`the list stays as it is: ${work}`);
        await new Promise((done) => setTimeout(done, 1));
    }
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - began;
}"""


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true. Playwright's own waiting makes code of a string, which the page forbids."""
    while not page.evaluate(expression):
        page.wait_for_timeout(20)


def opened(browser: Browser, path: Path, words: tuple[str, str]) -> dict[str, float]:
    """The times of one visit, in milliseconds."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    until(page, paint)
    figures = {
        "first_paint_ms": page.evaluate(paint),
        "load_ms": page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"),
    }
    began = time.monotonic()
    page.evaluate("document.getElementById('list').scrollIntoView()")
    page.wait_for_selector("#list[data-ready]", timeout=120_000)
    figures["unpack_ms"] = 1000 * (time.monotonic() - began)
    until(page, "!document.querySelector('[data-chart]:not([data-drawn])')")
    for name, work in (("sort", "sort"), ("first_search", f"search:{words[0]}"), ("search", f"search:{words[1]}")):
        figures[f"{name}_ms"] = page.evaluate(_TIMED, work)
    page.evaluate("document.getElementById('f-search').value = ''")
    figures["filter_ms"] = page.evaluate(_TIMED, "filter")
    figures["heap_mb"] = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
    page.close()
    return figures


def measure(pairs: int, folder: Path, chromium: str, repetitions: int) -> dict[str, Any]:
    """The figures of a run of so many pairs."""
    run = synthetic_run(pairs, rounds=4, words=60, coloured=400)
    assert run.pairs is not None
    words = tuple(" ".join(run.pairs["chosen"][row].as_py().split()[2:5]) for row in (pairs // 2, pairs // 3))
    path = folder / f"{pairs}.html"
    began = time.monotonic()
    write_report([run], path)
    figures: dict[str, Any] = {"pairs": pairs, "write_seconds": round(time.monotonic() - began, 2)}
    figures["megabytes"] = round(path.stat().st_size / 1e6, 2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        visits = [opened(browser, path, (words[0], words[1])) for _ in range(repetitions)]
        browser.close()
    return figures | {name: round(statistics.median(visit[name] for visit in visits), 1) for name in visits[0]}


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--repetitions", type=int, default=3, help="visits of each page")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("report is skipped: there is no browser; install Debian's package chromium")
    with tempfile.TemporaryDirectory() as scratch:
        sizes = [measure(pairs, Path(scratch), chromium, given.repetitions) for pairs in SIZES]
    figures = {"benchmark": "report", "repetitions": given.repetitions, "sizes": sizes}
    print(json.dumps(figures, indent=1))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

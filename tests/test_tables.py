"""Tables in the terminal, and names in Markdown: whatever they hold, they are shown as text."""

from __future__ import annotations

import html
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from seralign.tables import Table, code, counted, quantity, terminal
from seralign.terminal import printable_line


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("data/pairs.jsonl", "`data/pairs.jsonl`"),
        ("a`b", "``a`b``"),
        ("`a``", "``` `a`` ```"),
        ("<b>*x*</b>", "`<b>*x*</b>`"),
        ("a\n# b\x1b", "`a\\n# b\\x1b`"),
        ("", "`   `"),
    ],
)
def test_a_name_is_code(name: str, written: str) -> None:
    assert code(name) == written


@given(st.text(st.sampled_from("ab `*_<>&[]()#|\\\n\"'-:/!~\x1b"), min_size=1, max_size=20))
def test_a_name_is_shown_as_it_is(name: str) -> None:
    shown = MarkdownIt("commonmark").render(f"- **Data**: {code(name)}, 3 pairs")
    found = re.fullmatch(r"<ul>\n<li><strong>Data</strong>: <code>(.*)</code>, 3 pairs</li>\n</ul>\n", shown)
    assert found, shown
    assert html.unescape(found[1]).strip() == printable_line(name).strip()


def test_counts_with_their_noun() -> None:
    assert [quantity(count, "pair") for count in (0, 1, 2, 1200)] == ["0 pairs", "1 pair", "2 pairs", "1,200 pairs"]
    assert counted({"tie": 1203, "empty prompt": 1}) == "1,203 tie, 1 empty prompt"
    assert counted({}) == ""


WIDE = Table(
    "gold by method",
    ("method", "setting", "gold", "largest excess", "headroom"),
    (("sera", "beta 0.4, round 3", "−0.356 ± 0.242", "0.000 ± 0.001", "12.5%"),),
)


def printed(width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(terminal(WIDE, names=2))
    return file.getvalue().splitlines()


def test_a_wide_table_is_one_where_it_fits() -> None:
    lines = printed(100)

    assert sum("method" in line and "setting" in line for line in lines) == 1
    assert " sera    beta 0.4, round 3  −0.356 ± 0.242   0.000 ± 0.001     12.5%  " in lines


@pytest.mark.parametrize("width", [40, 45, 50, 60, 70])
def test_a_wide_table_is_continued_below_with_its_names(width: int) -> None:
    lines = printed(width)

    assert max(map(len, lines)) <= width
    assert sum("method" in line for line in lines) > 1
    text = "\n".join(lines)
    for cell in (*WIDE.rows[0][2:], "headroom", "excess"):
        assert text.count(cell) == 1, f"{cell} is broken or repeated"
    assert text.count("gold by method") == 1

"""Names in Markdown: whatever they hold, they are shown as text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from seralign.tables import code, quantity
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

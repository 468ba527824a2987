"""Names with the place of their first use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.data.first_uses import FirstUses
from seralign.errors import StoreError


@given(st.lists(st.text("ab\0é", max_size=3), max_size=30))
def test_a_name_that_was_used_has_the_place_of_its_first_use(names: list[str]) -> None:
    uses = FirstUses()
    found = [uses.add(name, f"row {row}") for row, name in enumerate(names)]
    firsts = [names.index(name) for name in names]
    assert found == [None if first == row else f"row {first}" for row, first in enumerate(firsts)]


def test_a_full_disk_is_one_clear_error() -> None:
    uses = FirstUses()
    uses._db.execute("PRAGMA max_page_count=4")
    with pytest.raises(StoreError, match=r"^the temporary file of ids cannot be written \(.*full.*SQLITE_TMPDIR"):
        list(map(uses.add, map(str, range(10_000))))

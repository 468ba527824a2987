"""Names that were used before, such as ids, on the disk."""

from __future__ import annotations

import sqlite3

from seralign.errors import StoreError

# Pages of the file that SQLite holds in memory, in KiB.
_HELD = 8192


class FirstUses:
    """Names with the place of their first use, in a temporary file, since there may be millions.

    SQLite makes the file in its folder for temporary files (``SQLITE_TMPDIR``), and removes it with the process.

    Raises:
        StoreError: The file cannot be written.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_HELD}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE names (name TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
        # One transaction, which never ends: nothing is read again by another process.
        self._db.execute("BEGIN")

    def add(self, name: str, place: str = "") -> str | None:
        """Add a name. The place of its first use where it was added before, which then stays; else None."""
        try:
            if self._db.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (name, place)).rowcount:
                return None
            return self._db.execute("SELECT place FROM names WHERE name = ?", (name,)).fetchone()[0]
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"the temporary file of ids cannot be written ({error}): free some space, or set SQLITE_TMPDIR to a "
                "folder with more"
            ) from None

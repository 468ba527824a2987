"""Reads datasets of a hub in a process of its own, for HF_ENDPOINT is read once: sources in, rows or errors out."""

from __future__ import annotations

import json
import sys

from seralign.config import SourceConfig
from seralign.data.sources import fingerprint, load_rows
from seralign.errors import SeralignError


def main() -> None:
    """Sources as a JSON list on standard input; what each gives as one on standard output."""
    found = []
    for asked in json.load(sys.stdin):
        source = SourceConfig(**asked)
        try:
            rows = [[values, where] for values, where in load_rows(source, "data.pairs").located()]
            found.append({"rows": rows, "fingerprint": fingerprint(source, "data.pairs")})
        except SeralignError as error:
            found.append({"error": str(error)})
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

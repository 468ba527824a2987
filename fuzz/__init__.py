"""Fuzzing of everything that reads a user's input: rows, files, configurations, chat templates.

Every input has to end in one of two ways: it is accepted, or it is refused by one line of a ``SeralignError``. Anything
else is a finding: another exception, an input that takes too long, a process that dies. ``python -m fuzz --help``.
"""

import sys
from pathlib import Path

# Tokenizers and runs made by hand are those of the tests.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

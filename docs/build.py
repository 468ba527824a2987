"""Build the documentation's site, strictly: ``python docs/build.py [folder]``, by default into ``site``.

A broken link, a page that the navigation lacks, and a name that the API pages cannot find are errors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "docs"

# What the site is made of besides docs. Each has its place of the repository there, so relative links hold in both.
PARTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE",
    "benchmarks/RESULTS.md",
    "docs",
    "examples",
)


def main(folder: Path) -> int:
    """Write the site; the exit status of ``mkdocs``."""
    gather()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder.absolute())]
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # mkdocs-material's advertisement, which a strict build would count
    return subprocess.run(command, cwd=ROOT, env=os.environ | quiet, check=False).returncode


def gather() -> None:
    """Make the folder of links that is the site's source."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for part in PARTS:
        place = SOURCE / part
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(ROOT / part)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site")))

"""The house rules that a reader of the tree relies on: which way imports run, and what loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "seralign"

# What each part may import besides itself. Parts of one line of the house do not import each other.
BASE = {"errors", "checks", "records", "objectives", "config", "terminal", "plugins"}
LOW = BASE | {"files", "sealed", "store", "cache", "results", "distributed", "progress"}
MIDDLE = LOW | {"policy", "data"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "terminal": set(),
    "records": set(),
    "checks": {"errors"},
    "objectives": {"errors", "checks", "records"},
    "config": {"errors", "checks", "objectives", "plugins", "terminal"},
    "files": {"errors"},
    "sealed": {"errors", "files"},
    "store": {"errors", "records", "files", "sealed"},
    "plugins": {"errors"},
    "database": {"errors", "files"},
    "cache": {"database", "progress"},
    "results": {"database", "progress"},
    "distributed": set(),
    "progress": {"distributed", "terminal"},
    "policy": LOW,
    "data": LOW,
    "selection": BASE,
    "crossfit": set(),
    "debias": set(),
    "stopping": BASE,
    "intervals": set(),
    "harm": {"intervals", "tables"},
    "evaluation": BASE | {"objectives", "intervals", "results", "progress"},
    "laboratory": MIDDLE | {"evaluation"},
    "packs": set(),
    "tables": {"terminal"},
    "responses": MIDDLE | {"packs"},
    "scoring": MIDDLE | {"responses"},
    "sampling": MIDDLE,
    "bootstrapping": MIDDLE | {"sampling"},
    "training": MIDDLE | {"packs"},
    "report": BASE | {"files", "store", "tables", "intervals", "harm"},
    "loop": MIDDLE | {"sampling", "packs", "responses", "selection", "crossfit", "debias", "stopping", "scoring",
                      "bootstrapping", "training", "evaluation", "laboratory", "report", "intervals", "harm", "tables"},
    "studies": MIDDLE | {"sampling", "tables", "intervals", "responses", "bootstrapping", "stopping", "evaluation",
                         "laboratory", "loop"},
    "cli": {"loop", "report", "studies", "config", "errors", "checks", "records", "files", "store", "cache",
            "results", "distributed", "sampling", "progress", "tables", "data", "policy", "terminal"},
    "__init__": {"config", "errors", "loop", "objectives", "policy", "records", "report", "selection", "store",
                 "training"},
}  # fmt: skip


def _part(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imported(file: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "seralign":
            names = [f"seralign.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("seralign.")}
    return parts


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_run_one_way(file: Path) -> None:
    part = _part(file)
    assert part in ALLOWED, f"{part} has no place in the house yet: say in ALLOWED what it may import"
    assert _imported(file) - {part} <= ALLOWED[part]


@pytest.mark.parametrize(
    "code",
    [
        "import seralign",
        "import seralign.config; seralign.config.load_config(None, {'out': 'x', 'world': {}})",
        "import seralign.cli.main; assert seralign.cli.main.main(['--help']) == 0",
        "import seralign.selection, seralign.store, seralign.report.contents",
    ],
)
def test_no_torch_is_loaded(code: str) -> None:
    check = f"{code}; import sys; assert not {{'torch', 'transformers', 'datasets'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

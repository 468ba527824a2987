"""The house rules that a reader of the tree relies on: which way imports run, and what loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "seralign"

# What each part may import besides itself.
BASE = {"errors", "checks", "records", "objectives", "plugins", "terminal", "config"}
LOW = BASE | {"runs", "distributed", "progress", "hub", "termination"}
MIDDLE = LOW | {"policy", "data"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "terminal": set(),
    "termination": set(),
    "records": set(),
    "distributed": {"errors"},
    "hub": {"errors"},
    "intervals": set(),
    "checks": {"errors"},
    "plugins": {"errors"},
    "objectives": {"errors", "checks", "records", "plugins"},
    "config": {"errors", "checks", "objectives", "plugins", "terminal", "records"},
    "importing": {"errors", "config", "terminal"},
    "progress": {"distributed", "terminal"},
    "tables": {"terminal", "intervals"},
    "harm": {"intervals", "tables"},
    "runs": {"errors", "records", "progress", "intervals"},
    "policy": LOW,
    "data": LOW,
    "rewards": MIDDLE | {"sampling"},
    "servers": {"errors", "checks", "config", "progress"},
    "sampling": MIDDLE | {"servers"},
    "training": MIDDLE,
    "evaluation": LOW | {"intervals", "policy", "servers", "rewards", "data"},
    "preferences": LOW | {"data", "evaluation", "rewards", "intervals", "tables"},
    "rlhf": MIDDLE | {"training", "evaluation"},
    "laboratory": MIDDLE | {"evaluation"},
    "report": BASE | {"runs", "tables", "intervals", "harm"},
    "pipeline": MIDDLE | {"sampling", "rewards", "training", "rlhf", "evaluation", "laboratory", "report", "intervals",
                          "harm", "tables", "preferences", "servers"},
    "studies": MIDDLE | {"sampling", "rewards", "evaluation", "laboratory", "pipeline", "report", "tables",
                         "intervals"},
    "cli": MIDDLE | {"importing", "preferences", "sampling", "pipeline", "report", "studies", "tables"},
    "__init__": {"config", "errors", "objectives", "pipeline", "policy", "records", "report", "rewards", "runs",
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
        "import seralign.rewards.selection, seralign.runs, seralign.report.contents",
    ],
)
def test_no_torch_is_loaded(code: str) -> None:
    check = f"{code}; import sys; assert not {{'torch', 'transformers', 'datasets'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""What ``pip install`` of the wheel alone gives: everything that the package reads, and a demo that runs."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {
    "world": '{"pairs": 40, "demonstrations": 40, "prompts": 12, "heldout": 10, "validation": 4}',
    "rounds": "2",
    "sft.max_steps": "2",
    "training.max_steps": "2",
    "evaluation.prompts": "4",
    "evaluation.baseline": "false",
}


def python(*arguments: str | Path, cwd: Path, executable: Path = Path(sys.executable)) -> str:
    """Run Python away from the checkout: nothing of it is on the path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(executable), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made from a copy: a build writes into the tree."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = folder / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    python("-c", "from setuptools import build_meta; build_meta.build_sdist('..')", cwd=tree)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution, as package indexes do."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    python("-m", "pip", "wheel", *options, "--wheel-dir", folder, sdist, cwd=folder)
    (archive,) = folder.glob("*.whl")
    return archive


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("clean") / "env"
    python("-m", "venv", "--without-pip", folder, cwd=wheel.parent)
    executable = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file brings the packages of that folder, but not what its own .pth files name: no checkout.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    python("-m", "pip", "--python", executable, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=folder)
    return folder / "bin"


def test_the_distributions_have_every_file(sdist: Path, wheel: Path) -> None:
    package = ROOT / "src" / "seralign"
    files = {path.relative_to(ROOT / "src").as_posix() for path in package.rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    assert {"seralign/quickstart.yaml", "seralign/py.typed", "seralign/report/templates/report.html.j2"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        assert expected == {name for name in archive.namelist() if name.startswith("seralign/")}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/src/")[2] for name in archive.getnames()}
    assert expected <= names


def test_the_demo_runs_without_a_checkout(clean: Path, tmp_path: Path) -> None:
    where = python("-c", "import seralign; print(seralign.__file__)", cwd=tmp_path, executable=clean / "python")
    assert Path(where.strip()).is_relative_to(clean.parent)
    version = python(clean / "seralign", "--version", cwd=tmp_path, executable=clean / "python").strip()
    assert list(clean.parent.glob(f"lib/*/site-packages/seralign-{version}.dist-info"))
    flags = [part for key, value in SMALL.items() for part in (f"--{key}", value)]
    printed = python(clean / "seralign", "demo", *flags, cwd=tmp_path, executable=clean / "python")
    assert "result: round" in printed
    run = tmp_path / "runs" / "quickstart"
    assert f"report: {run / 'report.html'}" in printed
    assert (run / "result" / "model.safetensors").is_file()
    assert "vega" in (run / "report.html").read_text(encoding="utf-8")
    beside = tmp_path / "runs" / "quickstart-sera_stable"
    assert (beside / "result" / "model.safetensors").is_file()
    assert f"both recipes: {tmp_path / 'runs' / 'quickstart-recipes.html'}" in printed

"""The documentation's site: its navigation and links, the names of the API pages, and the build itself."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import seralign

ROOT = Path(__file__).parents[1]
PARTS = runpy.run_path(str(ROOT / "docs" / "build.py"))["PARTS"]
FILES = sorted(
    file for part in PARTS for file in ([ROOT / part] if (ROOT / part).is_file() else (ROOT / part).rglob("*"))
)
PAGES = [file for file in FILES if file.suffix == ".md"]
API = sorted((ROOT / "docs" / "api").glob("*.md"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


class Loader(yaml.SafeLoader):
    """Reads ``mkdocs.yml`` and passes over its Python objects."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def navigation(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in navigation(part)]


# --- navigation and links


def test_the_tests_that_hold_the_promises_on_security_are_there() -> None:
    named = re.findall(r"`(tests/[\w./]+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_navigation_has_every_page_once() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    assert sorted(navigation(config["nav"])) == sorted(map(name_of, PAGES))


def test_contents_name_every_page_of_the_docs() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]*)", text_of(index))}
    assert {file for file in [*ROOT.glob("docs/*.md"), *API] if file != index} <= linked


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text_of(page)):
        if not target.startswith("http"):
            found = (page.parent / target).resolve() if target else page
            assert found in FILES, f"{target} is not a file of the site"
            assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- API


def found(name: str) -> Any:
    """The object that a dotted name stands for."""
    module, _, rest = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(found(module), rest)


def test_api_pages_have_every_exported_name() -> None:
    shown = [found(name) for page in API for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)]
    members = [member for thing in shown if inspect.ismodule(thing) for member in vars(thing).values()]
    missing = [
        name for name in seralign.__all__ if not any(getattr(seralign, name) is thing for thing in [*shown, *members])
    ]
    assert missing == []


@pytest.mark.parametrize("page", API, ids=name_of)
def test_names_of_the_api_pages_are_found(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"^::: (\S+)$", text, re.MULTILINE) + re.findall(r"\]\[([\w.]+)\]", text)
    assert names
    for name in names:
        assert found(name) is not None


# --- the build


def build(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "docs/build.py", "site"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the site is built from."""
    for part in (*PARTS, "mkdocs.yml", "src"):
        place = tmp_path / part
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, place)
    return tmp_path


@pytest.mark.real
def test_site_is_built_and_loads_nothing_from_elsewhere(tree: Path) -> None:
    done = build(tree)
    assert done.returncode == 0, done.stderr
    site = tree / "site"
    assert {name_of(page) for page in PAGES if page.name != "README.md"} == {
        page.relative_to(site).with_suffix(".md").as_posix()
        for page in site.rglob("*.html")
        if page.name not in ("index.html", "404.html")
    } | {"docs/index.md"}
    assert "Carry a run" in (site / "docs" / "api" / "running.html").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(
            r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//[^>]*|<link[^>]* href="?https?://[^>]*', text
        )
        assert not re.findall(r":(?:class|func|meth|mod|data):", text), f"{page}: a role of Sphinx"


BROKEN = {
    "link": ("docs/data.md", "\n[nowhere](nowhere.md)\n", "nowhere.md"),
    "anchor": ("docs/data.md", "\n[nowhere](method.md#nowhere)\n", "#nowhere"),
    "image": ("docs/data.md", "\n![nothing](images/nothing.svg)\n", "nothing.svg"),
    "page without a place": ("docs/new.md", "# New\n", "docs/new.md"),
    "name": ("docs/api/data.md", "\n::: seralign.nothing\n", "seralign.nothing"),
    "reference": ("docs/api/data.md", "\n[`nothing`][seralign.nothing]\n", "seralign.nothing"),
    "docstring": (
        "src/seralign/selection.py",
        '\n\ndef x(a: int) -> None:\n    """X.\n\n    Args:\n        b: B.\n    """\n',
        "'b'",
    ),
}


@pytest.mark.real
@pytest.mark.parametrize(("file", "added", "named"), BROKEN.values(), ids=BROKEN)
def test_build_fails_and_names_what_is_broken(tree: Path, file: str, added: str, named: str) -> None:
    with (tree / file).open("a", encoding="utf-8") as stream:
        stream.write(added)
    done = build(tree)
    assert done.returncode != 0
    assert named in done.stderr


def test_every_line_of_the_choices_links_to_its_figures() -> None:
    lines = [line for line in (ROOT / "docs" / "choosing.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    lines = [line for line in lines if not line.startswith(("| if |", "| --- |"))]
    assert len(lines) > 10
    assert [line for line in lines if not re.search(r"\]\([a-z0-9_/]+\.md(#[a-z0-9-]+)?\)\) \|$", line)] == []

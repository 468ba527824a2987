"""What ``seralign inspect --diagnose`` prints and draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.cli.console import stdout, tell
from seralign.errors import ConfigError
from seralign.progress import say


@dataclass(frozen=True)
class Diagnose:
    """Diagnose the pairs.

    Args:
        picture: The .svg file to draw, or None.
        margins: The folder of a run with ``crossfit`` whose margins judge the labels, or None.
    """

    picture: Path | None
    margins: Path | None


def asked_diagnosis(extra: dict[str, Any]) -> Diagnose | None:
    """What ``--diagnose``, ``--picture`` and ``--margins`` ask for.

    Raises:
        ConfigError: The picture cannot be drawn, or a library is not installed; names the flag.
    """
    picture: Path | None = extra["picture"]
    for name in ("picture", "margins"):
        if extra[name] is not None and not extra["diagnose"]:
            raise ConfigError(f"--{name} needs --diagnose")
    if picture is not None and (picture.suffix != ".svg" or not picture.parent.is_dir()):
        raise ConfigError(f"--picture {picture}: give the name of an .svg file in a folder that exists")
    if not extra["diagnose"]:
        return None
    from seralign.preferences.extras import check_installed

    check_installed("sklearn", "scikit-learn", "--diagnose")
    check_installed("cleanlab", "cleanlab", "--diagnose")
    return Diagnose(picture, extra["margins"])


def print_diagnosis(path: Path, asked: Diagnose) -> tuple[str, ...]:
    """Diagnose a table of pairs, print what was found, and draw it. Returns the ids of the least likely labels."""
    from seralign.data.table import read_table, to_example
    from seralign.preferences.diagnosis import diagnose, tables
    from seralign.preferences.noise import LEAST_PROMPTS
    from seralign.preferences.reviewed import read_review
    from seralign.progress import bar
    from seralign.runs.files import disk_errors, write_atomic
    from seralign.studies.svg import Mean, intervals_svg
    from seralign.tables import terminal

    table = read_table(path)
    reviewed = None if asked.margins is None else read_review(asked.margins, "--margins")

    def examples() -> Any:
        with bar("diagnose", len(table), "pair") as line:
            for row in table:
                yield to_example(row)  # pyright: ignore
                line.advance()

    found = diagnose(examples(), reviewed)
    if not found.pairs:
        raise ConfigError("--diagnose is for pairs, and there are none")
    for each in tables(found):
        stdout().print(terminal(each, texts=("value", "prompt")))
    if not found.predicted:
        say(f"what features predict is only measured with {LEAST_PROMPTS} different prompts or more")
    elif asked.picture is not None:
        title = "Share of pairs whose chosen response is predicted by"
        means = [Mean(one.name, one.accuracy.mean, one.accuracy.low, one.accuracy.high) for one in found.predicted]
        text = intervals_svg(title, means, 0.5)
        with disk_errors(asked.picture.parent):
            write_atomic(asked.picture, lambda part: part.write_text(text, encoding="utf-8"))
        tell(f"picture: {asked.picture}")
    return () if found.noise is None else tuple(one.example_id for one in found.noise.suspects)

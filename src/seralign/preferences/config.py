"""The configuration of ``seralign label``: rows, signals, and how they become preferences."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from seralign.checks import positive, require
from seralign.config import SourceConfig
from seralign.config.sections import check_known, load_sections
from seralign.config.values import build, shown, typed
from seralign.errors import ConfigError
from seralign.preferences.extras import check_installed
from seralign.preferences.kept import Write, check_keep_columns
from seralign.preferences.signals import SIGNALS, Function, Signal

OUTPUTS = (".jsonl", ".parquet")


@dataclass(frozen=True)
class RowsConfig:
    """The rows with candidates. Files are read as by ``data.pairs`` of a run.

    Args:
        path: A file, a list of files, a glob, a folder, or the name of a dataset on the hub.
        name: Configuration (subset) of a hub dataset.
        split: Split of a hub dataset, or of a saved ``DatasetDict``.
        revision: Commit or tag of a hub dataset.
        limit: Read only the first rows.
        prompt: The column with the prompt, text or messages.
        responses: The column with a list of responses, or a list of columns with one response each.
        text: If the responses are objects: the key of their text, e.g. ``answer``.
        response: In place of ``responses``: the column with one response; rows with the same prompt belong together.
    """

    path: str | list[str]
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    limit: int | None = None
    prompt: str = "prompt"
    responses: str | list[str] | None = None
    text: str | None = None
    response: str | None = None

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "limit", "at least 1", self.limit)
        if (self.responses is None) == (self.response is None):
            raise ConfigError("responses: set either responses or response: the column, or columns, with the responses")
        if isinstance(self.responses, list):
            require(len(self.responses) >= 2, "responses", "at least two columns", self.responses)
            different = len(set(self.responses)) == len(self.responses)
            require(different, "responses", "columns that are all different", self.responses)
        if self.text is not None and not isinstance(self.responses, str):
            raise ConfigError("text goes with responses: a column with a list of objects; leave it out")

    @property
    def source(self) -> SourceConfig:
        """The source of the rows."""
        return SourceConfig(self.path, self.name, self.split, self.revision, {}, self.limit)


@dataclass(frozen=True)
class PairsConfig:
    """Which pairs are made of the responses to a prompt. Ties never make a pair.

    Args:
        rule: ``all`` pairs; ``best_worst``, one pair; or ``adjacent``, responses that follow each other in their order.
        min_margin: Only pairs with a margin of at least this are made. A margin is the difference of the two scores, or
            for comparisons and combined signals the difference of the two probabilities, 2p - 1.
        hard: Every pair has p = 1, however sure its label is.
        goal: A text with ``{score}``, which is put before the prompt. Each pair becomes two: one that asks for the
            score of its better response, and one that asks for the score of its worse response, which is then the
            chosen one (reward-augmented data, 2410.08067). Needs one signal, which gives scores.
    """

    rule: Literal["all", "best_worst", "adjacent"] = "all"
    min_margin: float = 0.0
    hard: bool = False
    goal: str | None = None

    def __post_init__(self) -> None:
        require(self.min_margin >= 0, "min_margin", "at least 0", self.min_margin)
        require(self.goal is None or "{score}" in self.goal, "goal", "a text with {score}", self.goal)


@dataclass(frozen=True)
class CombineConfig:
    """How several signals become one probability.

    Args:
        method: ``dawid_skene`` estimates how reliable each signal is from how they agree. ``logistic`` learns it from
            the signal ``gold``, for prompts that have it.
        gold: The title of the signal that is the truth, with ``logistic``.
        prior: Added to the right and to the wrong labels of a signal, with ``dawid_skene``.
    """

    method: Literal["dawid_skene", "logistic"] = "dawid_skene"
    gold: str | None = None
    prior: float = 1.0

    def __post_init__(self) -> None:
        positive(self.prior, "prior")
        if (self.method == "logistic") != (self.gold is not None):
            raise ConfigError("gold and method: logistic must be set together")
        if self.method == "logistic":
            check_installed("sklearn", "scikit-learn", "method: logistic")
        else:
            check_installed("crowdkit", "crowd-kit", "method: dawid_skene")


@dataclass(frozen=True)
class LimitsConfig:
    """Limits on the processes in which checks run.

    Args:
        processes: Number of processes. Default: the number of processor cores.
        memory_mb: Memory that each process may use beyond what it has at its start.
        network: Whether checks may use the network.
    """

    processes: int | None = None
    memory_mb: int = 4096
    network: bool = False

    def __post_init__(self) -> None:
        require(self.processes is None or self.processes >= 1, "processes", "at least 1", self.processes)
        require(self.memory_mb >= 64, "memory_mb", "at least 64", self.memory_mb)


@dataclass(frozen=True)
class Titled:
    """A signal, its title, and its key in the configuration."""

    title: str
    key: str
    signal: Signal


@dataclass(frozen=True)
class LabelConfig:
    """The configuration of a labelling.

    Args:
        out: The file of preferences, .jsonl or .parquet.
        data: The rows.
        signals: What orders the responses.
        write: ``pairs``; ``rankings``, one row per prompt with all its responses; or ``scores``, one row per response.
        combine: How several signals become one; left out with one signal.
        pairs: Which pairs are made.
        keep_columns: Columns of the rows that are written to the file, too.
        limits: Limits on the processes in which checks run.
    """

    out: str
    data: RowsConfig
    signals: tuple[Titled, ...]
    write: Write = "pairs"
    combine: CombineConfig | None = None
    pairs: PairsConfig = field(default_factory=PairsConfig)
    keep_columns: tuple[str, ...] = ()
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        require(Path(self.out).suffix in OUTPUTS, "out", f"a file that ends with {' or '.join(OUTPUTS)}", self.out)
        check_keep_columns(self.keep_columns, self.write)
        for item in dataclasses.fields(self.pairs) if self.write != "pairs" else ():
            if getattr(self.pairs, item.name) != item.default:
                raise ConfigError(f"pairs.{item.name} is of pairs, and write is {self.write}; leave it out")
        titles = [signal.title for signal in self.signals]
        require(bool(titles), "signals", "a list of at least one signal", titles)
        require(len(set(titles)) == len(titles), "signals", "a list with different titles (title: ...)", titles)
        if len(titles) > 1 and self.combine is None:
            raise ConfigError("combine is missing: how the signals become one, e.g. combine: {method: dawid_skene}")
        if len(titles) == 1 and self.combine is not None:
            raise ConfigError("combine needs several signals; leave it out")
        if self.pairs.goal is not None and len(titles) > 1:
            raise ConfigError("pairs.goal asks for the score of one signal, and there are several; give one")
        if self.combine is not None and self.combine.gold is not None:
            require(self.combine.gold in titles, "combine.gold", f"one of {', '.join(titles)}", self.combine.gold)


_SECTIONS: dict[str, type] = {
    "data": RowsConfig,
    "combine": CombineConfig,
    "pairs": PairsConfig,
    "limits": LimitsConfig,
}


def load_label_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> LabelConfig:
    """Read the configuration of a labelling from a YAML file and overrides.

    Args:
        path: YAML file; each key is a field of ``LabelConfig``.
        overrides: Dotted keys to values, such as ``{"pairs.rule": "all"}``; they override the file.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is not allowed; names the key.
    """
    return load_sections(path, overrides, _SECTIONS, label_config)


def label_config(values: Mapping[str, Any]) -> LabelConfig:
    """The configuration of nested plain values.

    Raises:
        ConfigError: See ``load_label_config``.
    """
    check_known(_names(LabelConfig), values)
    for name in ("out", "data", "signals"):
        if name not in values:
            raise ConfigError(f"{name} is missing")
    sections = {name: _section(kind, values[name], name) for name, kind in _SECTIONS.items() if name in values}
    signals = values["signals"]
    if not isinstance(signals, list):
        raise ConfigError(f"signals: expected a list of sections, such as [{{name: ratings}}], got {shown(signals)}")
    return LabelConfig(
        out=typed(str, values["out"], "out"),
        signals=tuple(_titled(signal, f"signals[{place}]") for place, signal in enumerate(signals)),
        write=typed(Write, values.get("write", "pairs"), "write"),
        keep_columns=tuple(typed(list[str], values.get("keep_columns", []), "keep_columns")),
        **sections,
    )


def plain(config: LabelConfig) -> dict[str, Any]:
    """The configuration as plain values, with all defaults."""
    found = dataclasses.asdict(config)
    found["signals"] = [
        {"name": _name(one.signal), "title": one.title} | dataclasses.asdict(cast(Any, one.signal))
        for one in config.signals
    ]
    return found


def _name(signal: Signal) -> str:
    if isinstance(signal, Function):
        return signal.function
    return next(name for name, kind in SIGNALS.items() if kind is type(signal))


def _titled(values: Any, key: str) -> Titled:
    if not isinstance(values, dict):
        raise ConfigError(f"{key}: expected a section with name and settings, got {shown(values)}")
    settings = dict(values)
    if "name" not in settings:
        raise ConfigError(f"{key}.name is missing: one of {', '.join(SIGNALS)}, or module:function of your own")
    name = typed(str, settings.pop("name"), f"{key}.name")
    title = typed(str, settings.pop("title", name), f"{key}.title")
    if name in SIGNALS:
        kind: type = SIGNALS[name]
    elif ":" in name:
        kind, settings = Function, settings | {"function": name}
    else:
        close = difflib.get_close_matches(name, SIGNALS, 1)
        hint = f"did you mean {close[0]}? There" if close else "there"
        raise ConfigError(
            f"{key}.name: there is no signal {name!r}; {hint} are {', '.join(SIGNALS)}, and module:function of your own"
        )
    return Titled(title, key, _section(kind, settings, key))


def _section(kind: type, values: Any, key: str) -> Any:
    if values is None and key in ("combine",):
        return None
    if isinstance(values, dict):
        check_known(_names(kind), values, f"{key}.")
    return build(kind, values, key)


def _names(kind: type) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]

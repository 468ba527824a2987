"""Printing of ``seralign plan --gpu``: a run on GPUs that are not here."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seralign.config import RunConfig
from seralign.errors import ConfigError
from seralign.tables import Column, Table, table, terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seralign.pipeline.projection import Projection
    from seralign.pipeline.projection.project import PartEstimate

    _Row = tuple[str, str, list[PartEstimate]]

_SHARDS = ("none", "fsdp", "zero2", "zero3")
_SIZES = {
    "pairs": "pairs, of which data.heldout_fraction is held out unless data.heldout is given",
    "heldout": "held-out pairs",
    "prompts": "prompts for bootstrapping",
    "demonstrations": "demonstrations",
    "prompt_tokens": "mean tokens of a prompt",
    "response_tokens": "mean tokens of a response",
    "demonstration_tokens": "mean tokens of a demonstration with its prompt",
}
_FIGURES = ("mfu", "bandwidth", "link", "price")


def add_options(parser: ArgumentParser) -> None:
    """Add the options of a plan for GPUs that are not here."""
    group = parser.add_argument_group(
        "GPUs that are not here",
        "With --gpu or --gpus, nothing is measured: memory, time and money follow from formulas (docs/planning.md). "
        "policy.model is a folder with a config.json or the name of a known architecture, such as llama-3.1-8b.",
    )
    group.add_argument("--gpu", metavar="NAME", help="h100, h200, a100-80, a100-40, l40s, a10, rtx4090 or mi300x")
    group.add_argument("--gpus", metavar="N", type=int, help="number of GPUs (default: 1)")
    group.add_argument(
        "--shard",
        choices=_SHARDS,
        help="how weights, gradients and optimizer are divided among them (default: training.shard)",
    )
    group.add_argument("--mfu", metavar="SHARE", type=float, help="reached share of the peak FLOP/s (default: 0.4)")
    group.add_argument(
        "--bandwidth", metavar="SHARE", type=float, help="reached share of the memory's bandwidth (default: 0.7)"
    )
    group.add_argument(
        "--link", metavar="SHARE", type=float, help="reached share of the bandwidth between GPUs (default: 0.7)"
    )
    group.add_argument("--price", metavar="MONEY", type=float, help="of a GPU for an hour; the table then has costs")
    for name, about in _SIZES.items():
        group.add_argument(f"--{name}", metavar="N", type=int, help=f"{about} (default: from data)")


def wanted(options: dict[str, Any]) -> bool:
    """Whether the options ask for a plan for GPUs that are not here.

    Raises:
        ConfigError: an option of such a plan is given without ``--gpu`` and ``--gpus``.
    """
    if options["gpu"] is not None or options["gpus"] is not None:
        return True
    for name in ("shard", *_FIGURES, *_SIZES):
        if options[name] is not None:
            raise ConfigError(f"--{name} is for a plan on other GPUs: give --gpu too")
    return False


def projected(config: RunConfig, options: dict[str, Any]) -> Projection:
    """The plan that the options ask for.

    Raises:
        SeralignError: an option is wrong, or as ``project_run``.
    """
    from seralign.pipeline.projection import project_run
    from seralign.pipeline.projection.devices import device
    from seralign.pipeline.projection.memory import Machine
    from seralign.pipeline.projection.speed import Efficiency

    given = {name: options[name] for name in _SIZES if options[name] is not None}
    for name, value in ({"gpus": options["gpus"], "price": options["price"]} | given).items():
        least = 0 if name in ("heldout", "price") else 1
        if value is not None and not least <= value < float("inf"):
            raise ConfigError(f"--{name} must be at least {least}, got {value}")
    shard = options["shard"] or config.training.shard
    machine = Machine(device(options["gpu"] or "h100"), options["gpus"] or 1, shard)
    if machine.shard != "none" and machine.gpus == 1:
        key = f"--shard {shard}" if options["shard"] else f"training.shard: {shard}"
        raise ConfigError(f"{key} needs several GPUs: give --gpus")
    figures = {name: options[name] for name in ("mfu", "bandwidth", "link") if options[name] is not None}
    return project_run(config, machine, Efficiency(**figures), given, options["price"])


def projection_parts(plan: Projection) -> Iterator[RenderableType]:
    """The plan as tables and lines."""
    from rich.text import Text

    machine, shape = plan.machine, plan.shape
    trained = f", {shape.lora:,} trained (LoRA)" if shape.lora else ""
    gpus = f"{machine.gpus} x {machine.device.name}, shard {machine.shard}"
    yield Text(f"{gpus}; {shape.weights:,} weights{trained}", style="bold")
    stages: dict[tuple[str, str], list[PartEstimate]] = {}
    for part in plan.parts:
        stages.setdefault((part.stage, part.kind), []).append(part)
    yield terminal(_table(plan, [(*key, parts) for key, parts in stages.items()]), 2)
    yield terminal(kind_table(plan), 1)
    for note in plan.notes:
        yield Text(f"note: {note}")
    peak, usable = gigabytes(plan.peak), gigabytes(plan.usable)
    if plan.fits:
        yield Text(f"it fits: {peak} of {usable} GB a GPU", style="bold")
        return
    what = max(plan.parts, key=lambda part: part.memory.total)
    yield Text(f"will not fit: {what.kind} needs {peak} of {usable} GB a GPU", style="bold red")
    for remedy in plan.remedies:
        yield Text(f"it fits with {remedy}", style="bold red")
    if not plan.remedies:
        yield Text("no change was found with which it would fit; use GPUs with more memory", style="bold red")


def kind_table(plan: Projection) -> Table:
    """Memory, time and money by kind of work, and of all."""
    rows = [(kind, parts) for kind, parts in plan.by_kind().items()]
    made = _table(plan, [("", kind, parts) for kind, parts in (*rows, ("all", plan.parts))])
    return Table(made.caption, made.columns[1:], tuple(row[1:] for row in made.rows))


def _table(plan: Projection, rows: list[_Row]) -> Table:
    def peak(parts: list[PartEstimate]) -> float:
        return max(part.memory.total for part in parts)

    columns: list[Column[_Row]] = [
        Column("stage", lambda row: row[0]),
        Column("work", lambda row: row[1]),
        Column("tokens", lambda row: f"{sum(part.tokens for part in row[2]) / 1e6:,.1f} M"),
        Column("memory of a GPU", lambda row: f"{gigabytes(peak(row[2]))} GB"),
        Column("time", lambda row: hours(sum(part.seconds for part in row[2]))),
        Column("GPU hours", lambda row: f"{sum(part.gpu_hours for part in row[2]):,.1f}"),
    ]
    if all(part.cost is not None for part in plan.parts):
        columns.append(Column("cost", lambda row: f"{sum(part.cost or 0.0 for part in row[2]):,.2f}"))
    return table("", columns, rows)


def gigabytes(count: float) -> str:
    """Bytes in GB."""
    return f"{count / 1e9:,.1f}"


def hours(seconds: float) -> str:
    """Hours and minutes, or seconds below a minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"

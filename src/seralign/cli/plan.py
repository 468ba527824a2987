"""``seralign plan``: estimate time, memory and disk of a run before it starts, here or on other GPUs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from seralign import distributed
from seralign.cli.projection import add_options, projected, projection_parts, wanted
from seralign.config import config_parser, parse_config
from seralign.errors import ConfigError, ModelError
from seralign.tables import Column, quantity, table, terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seralign.pipeline.plan import RunPlan
    from seralign.pipeline.plan.estimate import Misfit, StageEstimate


def main(arguments: list[str]) -> int:
    """``[RUN.yaml] [--json] [--key value ...]``; 0 if the run fits, 1 if it does not."""
    parser = config_parser(
        prog="seralign plan",
        usage="seralign plan [RUN.yaml] [--json] [--gpu NAME --gpus N ...] [--key value ...]",
        description="Estimate time, memory and disk of a run from its data and a few measured steps. Name what will "
        "not fit, and settings that would. Nothing is written to the run.",
    )
    parser.add_argument("--json", action="store_true", help="print the same figures by name")
    add_options(parser)
    config, extra = parse_config(parser, arguments)
    if distributed.announced() > 1:
        raise ConfigError("seralign plan measures one process: start it without a launcher")

    if wanted(extra):
        projection = projected(config, extra)
        return _print(projection, projection_parts, extra["json"])
    from seralign.pipeline.plan import plan_run

    try:
        plan = plan_run(config)
    except ModelError as error:
        if str(error) != f"policy.model: {config.policy.model}: no such folder":
            raise
        raise ModelError(
            f"{error}. If a run has yet to make it, plan with the name of its architecture on a GPU: --gpu NAME "
            "--policy.model ARCHITECTURE, such as --gpu h100 --policy.model tinyllama-1.1b"
        ) from None
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return _print(plan, _parts, extra["json"])


def _print(plan: Any, parts: Callable[[Any], Iterator[RenderableType]], as_json: bool) -> int:
    from seralign.cli.console import stdout

    if as_json:
        print(json.dumps(plan.to_dict(), indent=1, allow_nan=False))
    else:
        console = stdout()
        for part in parts(plan):
            console.print(part, soft_wrap=True)
    return 0 if plan.fits else 1


def _parts(plan: RunPlan) -> Iterator[RenderableType]:
    from rich.text import Text

    yield _stages(plan)
    for packing in plan.packing:
        how = f"{packing.tokens:,} tokens in {quantity(packing.packs_a_step, 'pack')} a step"
        saved = f"{packing.shared:,} tokens saved by sharing prompts, {packing.padding:,} of padding"
        yield Text(f"{packing.stage}: {'packed' if packing.packed else 'padded'}, {how}; {saved}")
    for stage in dict.fromkeys(share.stage for share in plan.shares):
        each = [f"{_bytes(one.peak_bytes)} of {one.processes}" for one in plan.shares if one.stage == stage]
        yield Text(f"{stage}: memory of each process: {', '.join(each)}")
    if plan.disk is not None:
        disk = plan.disk
        yield Text(
            f"disk: at most {_bytes(disk.needed)} of {_bytes(disk.free)} free; a policy takes {_bytes(disk.policy)}, "
            f"a checkpoint {_bytes(disk.checkpoint)}"
        )
    for note in plan.notes:
        yield Text(f"note: {note}")
    for misfit in plan.misfits:
        yield Text(_told(misfit), style="bold red")
    if plan.fits:
        yield Text(f"it fits: {_bytes(plan.peak_bytes)} of {_bytes(plan.memory)} ({plan.device})", style="bold")


def _stages(plan: RunPlan) -> RenderableType:
    total = (_time(plan.seconds), _time(plan.at_most), _bytes(plan.peak_bytes))
    footer = ("in all, still to do", "", "", *total, "", "")
    return terminal(table("", _columns(), plan.stages), texts=("figures", ""), footer=footer)


def _columns() -> tuple[Column[StageEstimate], ...]:
    def timed(stage: StageEstimate, seconds: float | None) -> str:
        return _time(seconds) if stage.tokens or stage.seconds or stage.done else ""

    return (
        Column("stage", lambda stage: stage.name),
        Column("makes", lambda stage: f"{stage.count:,} {stage.unit}" if stage.count else ""),
        Column("tokens", lambda stage: f"{stage.tokens:,}" if stage.tokens else ""),
        Column("time", lambda stage: timed(stage, stage.seconds)),
        Column("at most", lambda stage: timed(stage, stage.at_most)),
        Column("peak memory", lambda stage: _bytes(stage.peak_bytes) if stage.peak_bytes else ""),
        Column("figures", _basis),
        Column("", lambda stage: stage.note),
    )


def _basis(stage: StageEstimate) -> str:
    """How the figures of a stage were obtained."""
    if stage.extrapolated is None or stage.done:
        return ""
    from seralign.pipeline.plan.estimate import NEARLY

    if stage.extrapolated <= NEARLY:
        return "measured"
    error = "?" if stage.error is None else f"{stage.error:.0%}" if stage.error < 1 else "100% or more"
    return f"extrapolated {stage.extrapolated:.2g}x, ±{error}"


def _told(misfit: Misfit) -> str:
    needs = f"will not fit: {misfit.what} needs {_bytes(misfit.needed_bytes)}"
    if misfit.what == "out":
        return f"{needs} of disk; use another folder (--out), or raise training.save_steps"
    if not misfit.settings:
        return f"{needs}; no setting was found that would fit; use a smaller model or a lower data.max_length"
    settings = ", ".join(f"{key}: {json.dumps(value)}" for key, value in misfit.settings.items())
    return f"{needs}; it fits with {settings}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _bytes(count: int | None) -> str:
    if count is None:
        return "?"
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}" if size < 1000 else f"{size:,.0f} {units[0]}"

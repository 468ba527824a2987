"""Opening a run: the stages that complete its configuration and read its data are carried out, and all is checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace

from seralign import distributed
from seralign.config import RunConfig
from seralign.evaluation.scorer import ScoreFunction
from seralign.pipeline.precision import settled
from seralign.pipeline.schedule import opening
from seralign.pipeline.stage import Context, carry_out
from seralign.pipeline.start import Start, started
from seralign.runs import Run
from seralign.runs.cache import LogpCache
from seralign.runs.figures import PrecisionFigures
from seralign.runs.layout import LOGPS, PRECISION


@contextmanager
def opened(run: Run, given: RunConfig, scorer: ScoreFunction | None) -> Iterator[Context]:
    """What the stages of a run after the opening ones work with, until it is closed.

    Raises:
        SeralignError: a user's mistake: configuration, data or model.
    """
    file = given.scoring.cache or run.root / LOGPS
    opened_cache = closing(LogpCache(file)) if distributed.is_main() else nullcontext()
    with opened_cache as cache, started(run, given, scorer) as start:
        carry_out_opening(start)
        found = opened_context(start, run.figures(PRECISION, PrecisionFigures).precision)
        yield replace(found, opened=replace(found.opened, cache=cache))


def carry_out_opening(start: Start) -> None:
    """Carry out the opening stages of a run, and say what they find.

    Raises:
        SeralignError: a user's mistake: configuration, data or model.
    """
    for stage in opening(start.given):
        carry_out(start.run, stage, start)
        stage.tell(start)


def opened_context(start: Start, precision: str) -> Context:
    """What the later stages work with, without a cache of log-probabilities; ``precision`` is what ``auto`` stands for.

    Raises:
        StoreError: an opening stage has not finished.
    """
    loop = replace(start.loop, config=settled(start.config, precision))
    return Context(loop, start.tables, start.base, start.reference)

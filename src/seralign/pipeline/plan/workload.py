"""The work of a run, stage by stage: its schedule, forecast from the lengths of its data."""

from __future__ import annotations

from seralign.pipeline.forecast.forecast import Forecast
from seralign.pipeline.forecast.foreseen import Lengths
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.schedule import schedule
from seralign.pipeline.stage import Context


def workload(context: Context, lengths: Lengths, longest: int) -> list[StageWork]:
    """The work of a run that has read its data and done nothing else.

    Args:
        context: The run; it is not touched.
        lengths: Of the responses that will be sampled.
        longest: The longest sequence that the loaded model takes in packed rows.
    """
    forecast = Forecast(context, lengths, longest)
    for stage in schedule(context.config):
        forecast.add(stage)
    return list(forecast.works.values())

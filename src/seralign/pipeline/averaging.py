"""The stage that averages the weights of the policies before a round (the EMA of SAPO, 2405.20830)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seralign import distributed
from seralign.pipeline.context import Policy
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.lineage import Round, averaged_before, trained_in
from seralign.pipeline.sampling import bootstrap_config
from seralign.pipeline.stage import Context
from seralign.policy.averaging import write_average
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.saved import trained_source
from seralign.runs.figures import AverageFigures
from seralign.runs.layout import AVERAGE, POLICY, round_stage

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# Two policies are read, and one is written and read again.
_LOADS = 4


@dataclass(frozen=True)
class Average:
    """The stage that moves the average of the policies: decay * (average before) + (1 - decay) * (last policy).

    The average begins with the policy of round 1. Of policies with adapters, the adapters' weights are averaged.
    """

    round: Round

    @property
    def name(self) -> str:
        """``round-3/average``, ..."""
        return round_stage(self.round.index, AVERAGE)

    def inputs(self, context: Context) -> dict[str, str]:
        """Both policies, and the weight of the earlier one."""
        earlier, later = self._policies(context)
        return {"average": earlier.digest, "policy": later.digest} | context.loop.settings("bootstrap.decay")

    def work(self, context: Context, folder: Path) -> AverageFigures:
        """Write the averaged policy.

        Raises:
            ModelError: the policies have other weights than each other.
            StoreError: a file of one of them has changed.
        """
        earlier, later = self._policies(context)
        decay, digest = bootstrap_config(context).decay, ""
        if distributed.is_main():
            old, new = (context.run.path(str(one.stage), POLICY) for one in (earlier, later))
            write_average(old, new, folder / POLICY, decay)
            saved = trained_source(folder / POLICY, later.source)
            digest = weights_digest(PolicySource(saved.model, adapter=saved.adapter))
        return AverageFigures(distributed.broadcast(digest), decay)

    def cost(self, forecast: Forecast) -> StageWork:
        """Reading and writing of weights; no model is run."""
        return StageWork(self.name, 1, "policy", loads=_LOADS, note="averages the weights of two policies")

    def _policies(self, context: Context) -> tuple[Policy, Policy]:
        index = self.round.index
        return context.policy(averaged_before(index - 1)), context.policy(trained_in(index - 1))

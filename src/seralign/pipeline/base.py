"""The stage that merges a trained adapter into its model, so that a new adapter can be trained on both."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState

from seralign import distributed
from seralign.config import PolicyConfig
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import settings
from seralign.policy.identity import PolicySource, hub_name, weights_digest
from seralign.policy.load import DTYPES
from seralign.policy.merging import write_merged
from seralign.policy.saved import MERGED_MODEL
from seralign.policy.size import count_weights
from seralign.progress import say
from seralign.runs.figures import BaseFigures
from seralign.runs.layout import BASE

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast
    from seralign.pipeline.stage import Context

# The model is loaded and hashed, written, and loaded and hashed again.
_LOADS = 3


@dataclass(frozen=True)
class MergeAdapter:
    """The stage that merges ``policy.adapter`` into ``policy.model`` if ``policy.lora`` asks for a new adapter.

    The merged model has the data type that the run trains in, because rounding to fewer bits would lose a part of the
    adapter's effect. When the stage has finished, ``Context`` returns the merged model as the run's first policy.
    """

    name: str = BASE

    def inputs(self, context: Context) -> dict[str, str]:
        """The weights of both, and the data type."""
        merged = {"policy.model or policy.adapter": context.given_base.digest}
        return merged | settings(context.opened.config, "policy.dtype")

    def work(self, context: Context, folder: Path) -> BaseFigures | None:
        """Write the merged model.

        Raises:
            ModelError: the adapter cannot be merged into the model.
        """
        figures: BaseFigures | None = None
        if distributed.is_main():
            figures = _merge(context.opened.config.policy, context.given_base.source, folder / MERGED_MODEL)
        return distributed.broadcast(figures)

    def cost(self, forecast: Forecast) -> StageWork:
        """The model is loaded, written and loaded again; writing is assumed to take as long as reading."""
        context = forecast.context
        # Adapters are merged in float32, whatever the training's precision.
        size = count_weights(context.given_base.source, context.opened.config.policy) * DTYPES["float32"].itemsize
        device: Any = PartialState().device
        # On a CPU, the pages of the weight files count as memory of the process.
        copies = 2 if device.type == "cpu" else 1
        note = "merges policy.adapter into policy.model"
        return StageWork(self.name, 1, "model", loads=_LOADS, bytes=copies * size, note=note)


def _merge(policy: PolicyConfig, source: PolicySource, folder: Path) -> BaseFigures:
    shutil.rmtree(folder, ignore_errors=True)  # a killed merge leaves an incomplete model
    say("merging policy.adapter into policy.model, for a new adapter on both")
    found = write_merged(source, policy, folder, policy.dtype, "policy.adapter")
    if found.loses:
        say(
            f"warning: rounding to policy.dtype, {found.dtype}, removes half or more of the effect of policy.adapter;"
            " policy.dtype: float32 keeps it"
        )
    return BaseFigures(
        **asdict(found),
        model=str(policy.model) if policy.revision is None else f"{policy.model}@{policy.revision}",
        adapter=str(policy.adapter),
        hub=hub_name(policy.model),
        digest=weights_digest(PolicySource(str(folder))),
    )

"""The stage that merges a trained adapter into its model, so that a fresh one can be trained on top of both."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState

from seralign import distributed
from seralign.config import PolicyConfig, RunConfig
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import settings
from seralign.policy.identity import PolicySource, hub_name, weights_digest
from seralign.policy.load import DTYPES
from seralign.policy.merging import write_merged
from seralign.policy.size import count_weights
from seralign.progress import say
from seralign.runs import Run
from seralign.runs.figures import BaseFigures
from seralign.runs.layout import BASE

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast
    from seralign.pipeline.stage import Context

_MODEL = "model"
# The model is loaded and hashed, written, and loaded and hashed again.
_LOADS = 3


@dataclass(frozen=True)
class MergeAdapter:
    """The stage that merges ``policy.adapter`` into ``policy.model``, where ``policy.lora`` asks for a fresh adapter.

    The merged model has the data type that the run trains in: rounded to less, it would lose a part of what the adapter
    does. Once the stage has finished, ``Context`` gives the merged model as the policy that the run begins with.
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
            figures = _merge(context.opened.config.policy, context.given_base.source, folder / _MODEL)
        return distributed.broadcast(figures)

    def cost(self, forecast: Forecast) -> StageWork:
        """The model is loaded, written and loaded again; writing is taken to last as long as reading."""
        context = forecast.context
        # An adapter is merged in float32, whatever is trained in.
        size = count_weights(context.given_base.source, context.opened.config.policy) * DTYPES["float32"].itemsize
        device: Any = PartialState().device
        # On a CPU the pages of the files that weights are read from count as memory of the process.
        copies = 2 if device.type == "cpu" else 1
        note = "merges policy.adapter into policy.model"
        return StageWork(self.name, 1, "model", loads=_LOADS, bytes=copies * size, note=note)


def _merge(policy: PolicyConfig, source: PolicySource, folder: Path) -> BaseFigures:
    shutil.rmtree(folder, ignore_errors=True)  # what a killed merge left there is half a model
    say("merging policy.adapter into policy.model, for a fresh adapter on both")
    found = write_merged(source, policy, folder, policy.dtype, "policy.adapter")
    if found.loses:
        say(
            f"warning: rounding to policy.dtype, {found.dtype}, takes half or more of what policy.adapter does;"
            " policy.dtype: float32 keeps it"
        )
    return BaseFigures(
        **asdict(found),
        model=str(policy.model) if policy.revision is None else f"{policy.model}@{policy.revision}",
        adapter=str(policy.adapter),
        hub=hub_name(policy.model),
        digest=weights_digest(PolicySource(str(folder))),
    )


def on_merged(config: RunConfig, run: Run) -> RunConfig:
    """The configuration with the run's merged model instead of its model and adapter.

    Checks the digests of the model's files. The configuration is unchanged if nothing was merged.

    Raises:
        StoreError: a file of the merged model has changed.
    """
    if not config.policy.merges or not run.exists(BASE):
        return config
    model = run.path(BASE, _MODEL).absolute()
    return replace(config, policy=replace(config.policy, model=str(model), revision=None, adapter=None))

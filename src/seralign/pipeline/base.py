"""A trained adapter merged into its model, where a fresh one is trained on top of both."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from seralign import distributed
from seralign.config import RunConfig
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.work import StageWork
from seralign.policy.identity import PolicySource, hub_name, weights_digest
from seralign.policy.load import DTYPES
from seralign.policy.merging import write_merged
from seralign.policy.size import count_weights
from seralign.progress import say
from seralign.runs import Run
from seralign.runs.figures import BaseFigures
from seralign.runs.layout import BASE

_MODEL = "model"
# The model is loaded and hashed, written, and loaded and hashed again.
_LOADS = 3


def base_stage(loop: Loop, base: Policy) -> tuple[Loop, Policy]:
    """Merge ``policy.adapter`` into ``policy.model`` where ``policy.lora`` asks for a fresh adapter too.

    The merged model has the data type that the run trains in: rounded to less, it would lose a part of what the adapter
    does.

    Args:
        loop: The run as configured.
        base: Model and adapter as configured.

    Returns:
        The run, and the policy that it begins with: on the merged model, or as they were where nothing is merged.

    Raises:
        ModelError: the adapter cannot be merged into the model.
    """
    policy = loop.config.policy
    if not policy.merges:
        return loop, base

    def work(folder: Path) -> BaseFigures | None:
        figures: BaseFigures | None = None
        if distributed.is_main():
            shutil.rmtree(folder / _MODEL, ignore_errors=True)  # what a killed merge left there is half a model
            say("merging policy.adapter into policy.model, for a fresh adapter on both")
            found = write_merged(base.source, policy, folder / _MODEL, policy.dtype, "policy.adapter")
            if found.loses:
                say(
                    f"warning: rounding to policy.dtype, {found.dtype}, takes half or more of what policy.adapter does;"
                    " policy.dtype: float32 keeps it"
                )
            figures = BaseFigures(
                **asdict(found),
                model=str(policy.model) if policy.revision is None else f"{policy.model}@{policy.revision}",
                adapter=str(policy.adapter),
                hub=hub_name(policy.model),
                digest=weights_digest(PolicySource(str(folder / _MODEL))),
            )
        return distributed.broadcast(figures)

    loop.stage(BASE, _inputs(loop, base), work)
    config = on_merged(loop.config, loop.run)
    source = PolicySource(str(config.policy.model))
    return replace(loop, config=config), replace(base, source=source, digest=loop.run.figures(BASE, BaseFigures).digest)


def base_cost(config: RunConfig, source: PolicySource) -> StageWork | None:
    """What the merge takes; None where nothing is merged.

    Writing a model is taken to last as long as reading it. An adapter is merged in float32, whatever is trained in.
    """
    if not config.policy.merges:
        return None
    size = count_weights(source, config.policy) * DTYPES["float32"].itemsize
    return StageWork(BASE, 1, "model", loads=_LOADS, bytes=size, note="merges policy.adapter into policy.model")


def on_merged(config: RunConfig, run: Run) -> RunConfig:
    """The configuration with the run's merged model in place of the model and the adapter that it names.

    The model's files are compared with their digests. Without the merged model, or where nothing is merged, the
    configuration is as it was.

    Raises:
        StoreError: a file of the merged model has changed.
    """
    if not config.policy.merges or not run.exists(BASE):
        return config
    model = run.path(BASE, _MODEL).absolute()
    return replace(config, policy=replace(config.policy, model=str(model), revision=None, adapter=None))


def _inputs(loop: Loop, base: Policy) -> dict[str, str]:
    return {"policy.model or policy.adapter": base.digest} | loop.settings("policy.dtype")

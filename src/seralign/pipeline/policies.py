"""The stage that records a run's first policies: the given model, the starting policy and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seralign.pipeline.lineage import INITIAL, REFERENCE
from seralign.pipeline.stage import Context
from seralign.policy.identity import hub_name
from seralign.policy.saving import saved_dtype
from seralign.progress import say
from seralign.runs.figures import BasePolicy, PoliciesFigures
from seralign.runs.layout import POLICIES
from seralign.runs.typed import to_json

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class Policies:
    """The stage that records the policies that the rounds start from, with the digests of their weights."""

    name: str = POLICIES

    def inputs(self, context: Context) -> dict[str, str]:
        """The digests of their weights."""
        digests = {"policy.model": context.base.digest, "policies": context.policy(INITIAL).digest}
        return digests | {"reference.model": context.policy(REFERENCE).digest}

    def work(self, context: Context, folder: Path) -> PoliciesFigures:
        """Record names, places and digests."""
        base, reference = context.base, context.policy(REFERENCE)
        # Later, a name could no longer be told to be a folder's or the hub's.
        hub = hub_name(context.config.policy.model)
        named = BasePolicy(**to_json(base.figures()), hub=hub, dtype=saved_dtype(base.source))
        say(f"reference: {reference.source}, weights sha256 {reference.digest[:16]}")
        return PoliciesFigures(named, context.policy(INITIAL).figures(), reference.figures())

    def cost(self, forecast: Forecast) -> None:
        """No model is used."""

"""A policy as one folder with a whole model, for engines that open no adapter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seralign.policy.merging import write_merged
from seralign.sampling.base import SampledPolicy


@contextmanager
def whole_model(policy: SampledPolicy) -> Iterator[Path]:
    """A folder with all weights of a policy, in transformers' format.

    It is the policy's own where there is no adapter. Otherwise base and adapter are merged, in the data type that the
    policy is sampled with, into a temporary folder that goes with the context: an engine keeps the context as long as
    its server runs.

    Raises:
        ModelError: the adapter cannot be merged, or the merged model is not what base and adapter are.
    """
    if policy.source.adapter is None:
        yield Path(policy.source.model)
        return
    with tempfile.TemporaryDirectory(prefix="seralign-") as folder:
        write_merged(policy.source, policy.loading, Path(folder), policy.dtype, policy.name)
        yield Path(folder)

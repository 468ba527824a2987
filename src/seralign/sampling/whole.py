"""A policy as one folder with a whole model, for engines that cannot load adapters."""

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

    Without an adapter it is the policy's own folder. Otherwise base and adapter are merged, in the data type for
    sampling, into a temporary folder that is deleted at the end of the context. An engine keeps the context open while
    its server runs.

    Raises:
        ModelError: the adapter cannot be merged, or the merged model differs from base plus adapter.
    """
    if policy.source.adapter is None:
        yield Path(policy.source.model)
        return
    with tempfile.TemporaryDirectory(prefix="seralign-") as folder:
        write_merged(policy.source, policy.loading, Path(folder), policy.dtype, policy.name)
        yield Path(folder)

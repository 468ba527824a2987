"""Reference log-probabilities of a training's rows, computed in the trainer's own packs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.data.table_columns import id_column
from seralign.pipeline.context import Loop, Policy
from seralign.policy.token_logps import TokenLogps
from seralign.rewards.cached_logprobs import logps
from seralign.rewards.responses import Responses
from seralign.rewards.token_logprobs import token_logps
from seralign.runs.files import write_table
from seralign.runs.layout import SCRATCH
from seralign.runs.sealed import is_sealed, read_sealed_table, write_sealed_table
from seralign.training.plan import Pack, Plan, response_packs


def first_packs(plan: Plan) -> list[Pack]:
    """The first pack of every row: the packs of the first epoch, as the trainer will run them."""
    seen: set[int] = set()
    first = []
    for pack in plan.packs:
        if not seen.issuperset(pack.rows.tolist()):
            first.append(pack)
            seen.update(pack.rows.tolist())
    return first


def reference_logps(
    loop: Loop,
    file: Path,
    table: datasets.Dataset,
    reads: Literal["all", "first"],
    packs: list[Pack],
    start: Policy,
    reference: Policy,
) -> np.ndarray:
    """Reference log-probabilities [R] of the responses in training, stored in the stage for resuming.

    If training starts from the reference itself, they are computed in exactly the trainer's packs, so that margins at
    step 0 are zero to the last bit. An example that training never reaches (``max_steps`` below an epoch) is not
    scored: it is null in the file and NaN in the array.
    """
    responses = Responses(table, reads)
    part, numbering = file.parent / SCRATCH / f"{file.stem}.sealed", responses.numbering
    if not distributed.broadcast(is_sealed(part)):
        policy = loop.training_policy(reference)
        both = response_packs(packs, numbering)
        found = logps(responses, both, policy, loop.cache, exact=start.digest == reference.digest)
        if distributed.is_main():
            write_sealed_table(part, {"logps": numbering.as_lists(found)})
        distributed.barrier()
    stored = read_sealed_table(part)["logps"]
    if distributed.is_main():
        write_table(file, {"example_id": id_column(table), "logps": stored})
    return numbering.from_lists(stored)


def reference_token_logps(
    loop: Loop,
    file: Path,
    table: datasets.Dataset,
    reads: Literal["all", "first"],
    packs: list[Pack],
    reference: Policy,
) -> tuple[np.ndarray, TokenLogps]:
    """As ``reference_logps``, with those of each token.

    They are always computed in exactly the trainer's packs, and never taken from the cache, which has no tokens.
    """
    responses = Responses(table, reads)
    part = file.parent / SCRATCH / f"{file.stem}_tokens.sealed"
    lengths = np.asarray(responses.lengths, dtype=np.int64)
    if not distributed.broadcast(is_sealed(part)):
        both = response_packs(packs, responses.numbering)
        sums, tokens = token_logps(responses, both, loop.training_policy(reference))
        if distributed.is_main():
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
            lists = pa.LargeListArray.from_arrays(offsets, pa.array(tokens.values, pa.float32()))
            write_sealed_table(part, {"logp": pa.array(sums, pa.float64()), "tokens": lists})
        distributed.barrier()
    stored = read_sealed_table(part)
    sums = stored["logp"].to_numpy()
    if distributed.is_main():
        write_table(file, {"example_id": id_column(table), "logps": responses.numbering.as_lists(sums)})
    return sums, TokenLogps(stored["tokens"].combine_chunks().flatten().to_numpy(zero_copy_only=False), lengths)

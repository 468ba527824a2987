"""Prompts to candidates to pairs: the data that a run makes for itself (SeRA, 2410.09362).

Sampling needs a model; the pairing and the mixing are pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa
from torch import nn
from transformers import PreTrainedTokenizerBase

from seralign import distributed
from seralign.data.table import CHUNK, column_lengths, to_prompt
from seralign.policy.sampling import SamplingParams, sample
from seralign.progress import bar, say
from seralign.records import Candidate, Pair, Prompt, content_id
from seralign.sealed import is_sealed, read_sealed_table, write_sealed_table

_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("text", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("finished", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Contrast:
    """The best and the worst candidate of a prompt by implicit reward, and the margin between them in nats."""

    prompt_id: str
    best: int
    worst: int
    margin: float


def sample_candidates(
    prompts: datasets.Dataset,
    load: Callable[[], nn.Module],
    tokenizer: PreTrainedTokenizerBase,
    params: SamplingParams,
    end_tokens: frozenset[int],
    *,
    batch_size: int,
    seed: int,
    parts: Path,
    label: str,
) -> pa.Table:
    """Sample ``params.samples`` responses to every prompt, a batch at a time.

    Prompts of similar length are sampled together. A batch is written to ``parts`` when it is done, and what is drawn
    in it depends on ``seed`` and its prompts alone: a killed sampling goes on with the next batch and ends with the
    same responses, whatever the number of processes. A batch whose file was changed since is sampled again.

    Returns:
        Candidates in the order of the prompts: ``prompt_id``, ``index``, ``text``, ``ids``, ``finished``.
    """
    parts.mkdir(parents=True, exist_ok=True)
    order = np.argsort(column_lengths(prompts, "ids"), kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    files = [parts / f"part-{number:06d}.sealed" for number in range(len(batches))]
    done = distributed.broadcast([is_sealed(file) for file in files] if distributed.is_main() else [])
    if harmed := [file for file, finished in zip(files, done, strict=True) if not finished and file.exists()]:
        say(f"warning: {harmed[0]}: changed since it was written ({len(harmed)} such files); sampled again")
    todo = [number for number, finished in enumerate(done) if not finished]
    with bar(label, len(prompts) * params.samples, "response") as line:
        line.at(sum(len(batches[number]) for number, finished in enumerate(done) if finished) * params.samples)
        model = load().eval() if todo else None
        for start in range(0, len(todo), distributed.world_size()):
            together = todo[start : start + distributed.world_size()]
            own: list[Candidate] | None = None
            if model is not None and distributed.rank() < len(together):
                number = together[distributed.rank()]
                batch = [to_prompt(prompts[int(row)]) for row in batches[number]]
                own = sample(model, tokenizer, batch, params, end_tokens, seed)
            for number, candidates in zip(together, distributed.gather(own), strict=False):
                if distributed.is_main():
                    write_sealed_table(files[number], _columns(candidates or []))
                line.advance(len(candidates or []))
        distributed.barrier()
    table = pa.concat_tables([_SCHEMA.empty_table(), *(read_sealed_table(file).cast(_SCHEMA) for file in files)])
    places = np.argsort(order, kind="stable")
    rows = places[:, None] * params.samples + np.arange(params.samples)
    return table.take(pa.array(rows.reshape(-1), pa.int64()))


def contrasts(candidates: pa.Table, rewards: np.ndarray) -> tuple[list[Contrast], Counter[str]]:
    """The best and the worst usable response of each prompt (2410.09362, preference bootstrapping).

    Unfinished and empty responses and repetitions of another response make no pair. Equal rewards are ordered by
    index, so that the result does not depend on the order of the rows.

    Args:
        candidates: All candidates, in any order: ``prompt_id``, ``index``, ``text``, ``finished``.
        rewards: Their ensembled implicit rewards [N], in nats without beta.

    Returns:
        Contrasts (``best`` and ``worst`` are rows of ``candidates``), and counts of what was left out and why:
        ``unfinished``, ``empty``, ``repeated`` responses, ``prompts without two responses``, ``no contrast``.
    """
    index, finished = candidates["index"].to_numpy(), candidates["finished"].to_numpy()
    texts = candidates["text"].to_pylist()
    by_prompt: dict[str, list[int]] = {}
    for at, prompt_id in enumerate(candidates["prompt_id"].to_pylist()):
        by_prompt.setdefault(prompt_id, []).append(at)
    found: list[Contrast] = []
    left_out: Counter[str] = Counter()
    for prompt_id, places in by_prompt.items():
        usable: dict[str, int] = {}
        for at in sorted(places, key=lambda at: index[at]):
            text = texts[at].strip()
            if not finished[at]:
                left_out["unfinished"] += 1
            elif not text:
                left_out["empty"] += 1
            elif text in usable:
                left_out["repeated"] += 1
            else:
                usable[text] = at
        if len(usable) < 2:
            left_out["prompts without two responses"] += 1
            continue
        ranked = sorted(usable.values(), key=lambda at: (-rewards[at], index[at]))
        margin = float(rewards[ranked[0]] - rewards[ranked[-1]])
        if margin > 0:
            found.append(Contrast(prompt_id, ranked[0], ranked[-1], margin))
        else:
            left_out["no contrast"] += 1
    return found, left_out


def generated_pair(round_index: int, prompt: Prompt, chosen: Candidate, rejected: Candidate) -> Pair:
    """The pair that two responses of the policy make in a round."""
    return Pair(
        pair_id=f"round{round_index}-{content_id([prompt.ids, chosen.ids, rejected.ids])}",
        prompt_id=prompt.prompt_id,
        origin=f"generated:{round_index}",
        prompt=prompt.text,
        chosen=chosen.text,
        rejected=rejected.text,
        prompt_ids=prompt.ids,
        chosen_ids=chosen.ids,
        rejected_ids=rejected.ids,
    )


def generated_pairs(
    round_index: int, prompts: datasets.Dataset, candidates: pa.Table, found: Sequence[Contrast]
) -> Iterator[Pair]:
    """The pairs of a round's contrasts, in their order; token ids are read for a few pairs at a time."""
    row_of = {prompt_id: row for row, prompt_id in enumerate(prompts["prompt_id"])}
    asked = prompts.select([row_of[contrast.prompt_id] for contrast in found])
    best = candidates.take(pa.array([contrast.best for contrast in found], pa.int64()))
    worst = candidates.take(pa.array([contrast.worst for contrast in found], pa.int64()))
    for row, chosen, rejected in zip(asked, _records(best), _records(worst), strict=True):
        yield generated_pair(round_index, to_prompt(cast(dict[str, Any], row)), chosen, rejected)


def mix(kept: int, generated: int, total: int, share: float) -> tuple[int, int]:
    """How many offline and generated pairs a round trains on: together no more than there are offline pairs.

    Generated pairs come first, up to their share; kept offline pairs fill the rest. Where fewer pairs were generated
    than the share asks for, the true share is smaller and no offline pair is left out for their sake.

    Args:
        kept: Kept offline pairs.
        generated: Kept generated pairs.
        total: Offline pairs before selection.
        share: Largest share of generated pairs, in [0, 1).

    Returns:
        Numbers of offline and of generated pairs.
    """
    # The tolerance gives back what the arithmetic took from a whole number.
    made = min(generated, math.floor(share * total + 1e-9), math.floor(share / (1 - share) * kept + 1e-9))
    return min(kept, total - made), made


def candidates_of(table: pa.Table) -> list[Candidate]:
    """Rows of a table of candidates as records."""
    return [Candidate(**(row | {"ids": tuple(row["ids"])})) for row in table.select(_SCHEMA.names).to_pylist()]


def draw_prompts(prompts: datasets.Dataset, count: int | None, seed: int) -> datasets.Dataset:
    """``count`` of the prompts drawn by ``seed``, in their order; all of them where ``count`` is None or larger."""
    if count is None or count >= len(prompts):
        return prompts
    return prompts.select(sorted(np.random.default_rng(seed).permutation(len(prompts))[:count].tolist()))


def _records(table: pa.Table) -> Iterator[Candidate]:
    for start in range(0, len(table), CHUNK):
        yield from candidates_of(table.slice(start, CHUNK))


def _columns(candidates: list[Candidate]) -> dict[str, pa.Array]:
    return {
        field.name: pa.array([getattr(candidate, field.name) for candidate in candidates], field.type)
        for field in _SCHEMA
    }

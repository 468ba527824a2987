"""Prompts to candidates to pairs: the data that the policy makes for itself (SeRA, 2410.09362).

Sampling needs a model; the pairing and the mixing are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from torch import nn
from transformers import PreTrainedTokenizerBase

from seralign import distributed
from seralign.config import BootstrapConfig
from seralign.data.table import to_prompt
from seralign.policy.sampling import SamplingParams, sample
from seralign.progress import bar
from seralign.records import Candidate, Pair, Prompt, content_id
from seralign.store import read_table, write_table

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

    Prompts of similar length are sampled together. Every batch has its own seed and is written to ``parts`` when it
    is done: a killed sampling goes on with the next batch and ends with the same responses, whatever the number of
    processes.

    Returns:
        Candidates in the order of the prompts: ``prompt_id``, ``index``, ``text``, ``ids``, ``finished``.
    """
    parts.mkdir(parents=True, exist_ok=True)
    lengths = np.array([len(ids) for ids in prompts["ids"]])
    order = np.argsort(lengths, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    files = [parts / f"part-{number:06d}.parquet" for number in range(len(batches))]
    done = distributed.broadcast([file.is_file() for file in files])
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
                own = sample(model, tokenizer, batch, params, end_tokens, _batch_seed(seed, number))
            for number, candidates in zip(together, distributed.gather(own), strict=False):
                if distributed.is_main():
                    write_table(files[number], _columns(candidates or []))
                line.advance(len(candidates or []))
        distributed.barrier()
    table = pa.concat_tables([_SCHEMA.empty_table(), *(read_table(file).cast(_SCHEMA) for file in files)])
    places = np.argsort(order, kind="stable")
    rows = places[:, None] * params.samples + np.arange(params.samples)
    return table.take(pa.array(rows.reshape(-1), pa.int64()))


def contrasts(candidates: Sequence[Candidate], rewards: np.ndarray) -> tuple[list[Contrast], Counter[str]]:
    """The best and the worst usable response of each prompt (2410.09362, preference bootstrapping).

    Unfinished and empty responses and repetitions of another response make no pair. Equal rewards are ordered by
    index, so that the result does not depend on the order of the rows.

    Args:
        candidates: All candidates, in any order.
        rewards: Their ensembled implicit rewards [N], in nats without beta.

    Returns:
        Contrasts (``best`` and ``worst`` are positions in ``candidates``), and counts of what was left out and why:
        ``unfinished``, ``empty``, ``repeated`` responses, ``prompts without two responses``, ``no contrast``.
    """
    by_prompt: dict[str, list[int]] = {}
    for at, candidate in enumerate(candidates):
        by_prompt.setdefault(candidate.prompt_id, []).append(at)
    found: list[Contrast] = []
    left_out: Counter[str] = Counter()
    for prompt_id, places in by_prompt.items():
        usable: dict[str, int] = {}
        for at in sorted(places, key=lambda at: candidates[at].index):
            candidate = candidates[at]
            text = candidate.text.strip()
            if not candidate.finished:
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
        ranked = sorted(usable.values(), key=lambda at: (-rewards[at], candidates[at].index))
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


def mix(
    offline: Sequence[str], generated: Sequence[str], margins: dict[str, float], total: int, share: float
) -> tuple[list[str], list[str]]:
    """The training data of a round: about ``total`` pairs, of which ``share`` are generated.

    Of each kind those with the largest margins are taken, as far as there are any. Neither side is repeated to fill
    up: the true share may be smaller than asked for, and is never larger.

    Args:
        offline: Kept offline pair ids.
        generated: Kept generated pair ids.
        margins: Margin of each of them.
        total: Number of offline pairs before selection.
        share: Wanted share of generated pairs, in [0, 1).

    Returns:
        Offline and generated ids to train on, in the order given.
    """
    # The small number takes back what the division of floats loses: 0.3 of 100 is 30, not 29.
    wanted = int(share * total + 1e-9)
    own = _largest(offline, margins, total - wanted)
    most = int(len(own) * share / (1.0 - share) + 1e-9)
    return own, _largest(generated, margins, min(wanted, most))


def candidates_of(table: pa.Table) -> list[Candidate]:
    """Rows of a table of candidates as records."""
    return [Candidate(**(row | {"ids": tuple(row["ids"])})) for row in table.select(_SCHEMA.names).to_pylist()]


def round_prompts(prompts: datasets.Dataset, config: BootstrapConfig, seed: int) -> datasets.Dataset:
    """The prompts of a round: all, or ``config.prompts`` of them drawn anew."""
    if config.prompts is None or config.prompts >= len(prompts):
        return prompts
    return prompts.select(sorted(np.random.default_rng(seed).permutation(len(prompts))[: config.prompts].tolist()))


def _largest(ids: Sequence[str], margins: dict[str, float], count: int) -> list[str]:
    taken = set(sorted(ids, key=lambda pair_id: (-margins[pair_id], pair_id))[:count])
    return [pair_id for pair_id in ids if pair_id in taken]


def _batch_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _columns(candidates: list[Candidate]) -> dict[str, pa.Array]:
    return {
        field.name: pa.array([getattr(candidate, field.name) for candidate in candidates], field.type)
        for field in _SCHEMA
    }

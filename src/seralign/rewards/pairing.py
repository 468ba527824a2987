"""Pairs and rankings from sampled candidates: preference bootstrapping (SeRA, 2410.09362). Pure."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from seralign.data.numbering import Numbering
from seralign.data.table import CHUNK, PROMPT_COLUMNS, prompt_of
from seralign.records import Candidate, Example, Pair, Prompt, Ranking, Response, content_id
from seralign.rewards.length_correction import like_length
from seralign.rewards.ordering import Ordering
from seralign.rewards.usable import Usable
from seralign.runs.streams import StoredRows
from seralign.sampling import candidates_of


@dataclass(frozen=True, slots=True)
class Contrast:
    """Candidates of a prompt in order of their implicit rewards, the best first: two of them, or all.

    Args:
        prompt_id: The prompt.
        rows: Rows of the candidates [K].
        preference: What their rewards say of them.
        margin: In nats, as ``seralign.rewards.ordering`` defines it.
    """

    prompt_id: str
    rows: tuple[int, ...]
    preference: Pair | Ranking
    margin: float


class Contrasts(Sequence[Contrast]):
    """Contrasts in arrays, since there may be millions; each is made when it is asked for.

    Args:
        prompt_ids: The prompt of each candidate [N].
    """

    def __init__(self, prompt_ids: pa.ChunkedArray) -> None:
        self._prompt_ids = prompt_ids
        self._rows, self._ends, self._levels, self._margins = array("i"), array("q", [0]), array("i"), array("d")

    def add(self, rows: Sequence[int], margin: float, levels: Sequence[int] = ()) -> None:
        """Add a pair, or a ranking with the rank of each of its rows."""
        self._rows.extend(rows)
        self._levels.extend(levels or [0] * len(rows))
        self._ends.append(len(self._rows))
        self._margins.append(margin)

    def __len__(self) -> int:
        return len(self._margins)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        part = slice(self._ends[at], self._ends[at + 1])
        rows, levels = tuple(self._rows[part]), tuple(self._levels[part])
        preference = Ranking(levels) if any(levels) else Pair()
        return Contrast(self._prompt_ids[rows[0]].as_py(), rows, preference, self._margins[at])


def contrasts(usable: Usable, rewards: np.ndarray) -> tuple[Contrasts, Counter[str]]:
    """The best and the worst response to each prompt (2410.09362, preference bootstrapping).

    Equal rewards are ordered by index, so that the result does not depend on the order of the rows.

    Args:
        usable: The responses that can form pairs, from ``seralign.rewards.usable``.
        rewards: Ensembled implicit rewards of all candidates [N], in nats without beta.

    Returns:
        Contrasts, and the number of prompts with ``no contrast``, whose responses all have the same reward.
    """
    found, left_out = Contrasts(usable.prompt_ids), Counter[str]()
    for rows in usable:
        ranked = rows[np.argsort(-rewards[rows], kind="stable")]
        _add(found, left_out, rewards, int(ranked[0]), int(ranked[-1]))
    return found, left_out


def unranked(usable: Usable) -> tuple[Contrasts, Counter[str]]:
    """The first two responses to each prompt in the order of their index, for a judge to compare; the margin is 0.

    Args:
        usable: The responses that can form pairs, from ``seralign.rewards.usable``.
    """
    found = Contrasts(usable.prompt_ids)
    for rows in usable:
        found.add(rows[:2].tolist(), 0.0)
    return found, Counter()


def matched_contrasts(
    usable: Usable, rewards: np.ndarray, lengths: np.ndarray, band: float
) -> tuple[Contrasts, Counter[str]]:
    """The two responses of similar length to each prompt with the largest difference in reward.

    Args:
        usable: The responses that can form pairs, from ``seralign.rewards.usable``.
        rewards: Ensembled implicit rewards of all candidates [N], in nats without beta.
        lengths: Lengths of all candidates in tokens [N].
        band: Largest difference in length, as a share of the longer response.

    Returns:
        Contrasts, and the numbers of ``prompts without two responses of like length`` and with ``no contrast``.
    """
    found, left_out = Contrasts(usable.prompt_ids), Counter[str]()
    for rows in usable:
        places = like_length(rewards[rows], lengths[rows], band)
        if places is None:
            left_out["prompts without two responses of like length"] += 1
        else:
            _add(found, left_out, rewards, int(rows[places[0]]), int(rows[places[1]]))
    return found, left_out


def judged_contrasts(
    found: Sequence[Contrast], first_better: Sequence[float | None]
) -> tuple[list[Contrast], Counter[str]]:
    """Pairs with the labels of a judge (iREPO, 2405.15230: self-generated pairs with an annotator's probability).

    The response that the judge prefers is the chosen one. If it is the one with the lower reward, the margin is below
    zero. A tie makes no pair: it names no response to prefer.

    Args:
        found: Pairs.
        first_better: The probability that the first response of each is better; None where there is no verdict.

    Returns:
        Pairs with p in (0.5, 1], and the numbers of pairs ``without a verdict`` and with a ``tie``.
    """
    made: list[Contrast] = []
    left_out: Counter[str] = Counter()
    for contrast, p in zip(found, first_better, strict=True):
        if p is None:
            left_out["without a verdict"] += 1
        elif p == 0.5:
            left_out["tie"] += 1
        elif p > 0.5:
            made.append(replace(contrast, preference=Pair(p)))
        else:
            turned = contrast.rows[::-1]
            made.append(replace(contrast, rows=turned, preference=Pair(1.0 - p), margin=0.0 - contrast.margin))
    return made, left_out


def rankings(usable: Usable, rewards: np.ndarray, least: int = 2) -> tuple[Contrasts, Counter[str]]:
    """All responses to each prompt, ranked by reward. Equal rewards are a tie; ``contrasts`` has their order.

    Args:
        usable: The responses that can form pairs, from ``seralign.rewards.usable``.
        rewards: Ensembled implicit rewards of all candidates [N], in nats without beta.
        least: The fewest responses of a ranking.

    Returns:
        Rankings, and the numbers of ``prompts with fewer than LEAST responses`` and with ``no contrast``.
    """
    found, left_out = Contrasts(usable.prompt_ids), Counter[str]()
    for rows in usable:
        ranked = rows[np.argsort(-rewards[rows], kind="stable")]
        levels = np.unique(-rewards[ranked], return_inverse=True)[1] + 1
        if len(ranked) < least:
            left_out[f"prompts with fewer than {least} responses"] += 1
        elif levels[-1] == 1:
            left_out["no contrast"] += 1
        else:
            order = Ordering(Numbering(np.array([len(ranked)])), -levels.astype(np.float64))
            margin = float(order.margin(rewards[ranked])[0])
            found.add(ranked.tolist(), margin, levels.tolist())
    return found, left_out


def _add(found: Contrasts, left_out: Counter[str], rewards: np.ndarray, best: int, worst: int) -> None:
    margin = float(rewards[best] - rewards[worst])
    if margin > 0:
        found.add((best, worst), margin)
    else:
        left_out["no contrast"] += 1


def generated_example(
    round_index: int, prompt: Prompt, ranked: Sequence[Candidate], preference: Pair | Ranking
) -> Example:
    """Responses that the policy generated in a round, the best first, with the preference over them."""
    return Example(
        example_id=f"round{round_index}-{content_id([prompt.ids, *(response.ids for response in ranked)])}",
        prompt=prompt,
        responses=tuple(Response(response.text, response.ids) for response in ranked),
        preference=preference,
        origin=f"generated:{round_index}",
    )


def generated_examples(round_index: int, candidates: pa.Table, found: Sequence[Contrast]) -> Iterator[Example]:
    """The pairs or rankings of a round's contrasts, in order; holds a few candidates at a time.

    Args:
        round_index: The round.
        candidates: All candidates with their prompts, from ``seralign.pipeline.scoring.stored_with_prompts``.
        found: The contrasts.
    """
    read, rows = StoredRows(candidates), (row for contrast in found for row in contrast.rows)
    responses = _records(read, rows)
    for contrast in found:
        ranked = list(islice(responses, len(contrast.rows)))
        prompt = ranked[0][0]
        yield generated_example(round_index, prompt, [response for _, response in ranked], contrast.preference)


def mix(kept: int, generated: int, total: int, share: float) -> tuple[int, int]:
    """Numbers of offline and generated pairs in a round; their sum is at most the number of offline pairs.

    Generated pairs are added first, up to their share; kept offline pairs fill the rest. If fewer pairs were generated
    than the share allows, no offline pair is left out to keep the proportion.

    Args:
        kept: Kept offline pairs.
        generated: Kept generated pairs.
        total: Offline pairs before selection.
        share: Largest share of generated pairs, in [0, 1).

    Returns:
        Numbers of offline and of generated pairs.
    """
    # The tolerance corrects rounding below a whole number.
    made = min(generated, math.floor(share * total + 1e-9), math.floor(share / (1 - share) * kept + 1e-9))
    return min(kept, total - made), made


def draw_prompts(prompts: datasets.Dataset, count: int | None, seed: int) -> datasets.Dataset:
    """Draw ``count`` prompts by ``seed`` and keep their order; all prompts if ``count`` is None or larger."""
    if count is None or count >= len(prompts):
        return prompts
    return prompts.select(sorted(np.random.default_rng(seed).permutation(len(prompts))[:count].tolist()))


def _records(read: StoredRows, rows: Iterator[int]) -> Iterator[tuple[Prompt, Candidate]]:
    """Candidates with their prompts."""
    while some := list(islice(rows, CHUNK)):
        table = read.take(np.array(some, dtype=np.int64))
        prompts = map(prompt_of, table.select(PROMPT_COLUMNS).to_pylist())
        yield from zip(prompts, candidates_of(table), strict=True)

"""Pairs and rankings from sampled candidates: preference bootstrapping (SeRA, 2410.09362). Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa

from seralign.data.numbering import Numbering
from seralign.data.table import CHUNK, to_prompt
from seralign.records import Candidate, Example, Pair, Prompt, Ranking, Response, content_id
from seralign.rewards.length_correction import like_length
from seralign.rewards.ordering import Ordering
from seralign.runs.streams import take_rows
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


def usable_responses(candidates: pa.Table) -> tuple[dict[str, list[int]], Counter[str]]:
    """The responses that can form pairs, by prompt; prompts with fewer than two are left out.

    Unfinished, empty and repeated responses form no pair.

    Args:
        candidates: All candidates, in any order: ``prompt_id``, ``index``, ``text``, ``finished``.

    Returns:
        Rows of ``candidates`` by prompt, in order of their index, and counts of what was left out by reason:
        ``unfinished``, ``empty``, ``repeated`` responses, ``prompts without two responses``.
    """
    index, finished = candidates["index"].to_numpy(), candidates["finished"].to_numpy()
    texts = candidates["text"].to_pylist()
    by_prompt: dict[str, list[int]] = {}
    for at, prompt_id in enumerate(candidates["prompt_id"].to_pylist()):
        by_prompt.setdefault(prompt_id, []).append(at)
    found: dict[str, list[int]] = {}
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
        else:
            found[prompt_id] = list(usable.values())
    return found, left_out


def contrasts(usable: Mapping[str, Sequence[int]], rewards: np.ndarray) -> tuple[list[Contrast], Counter[str]]:
    """The best and the worst response to each prompt (2410.09362, preference bootstrapping).

    Equal rewards are ordered by index, so that the result does not depend on the order of the rows.

    Args:
        usable: The responses that can form pairs, from ``usable_responses``.
        rewards: Ensembled implicit rewards of all candidates [N], in nats without beta.

    Returns:
        Contrasts, and the number of prompts with ``no contrast``, whose responses all have the same reward.
    """
    found: list[Contrast] = []
    left_out: Counter[str] = Counter()
    for prompt_id, rows in usable.items():
        ranked = sorted(rows, key=lambda row: -rewards[row])
        _add(found, left_out, prompt_id, rewards, ranked[0], ranked[-1])
    return found, left_out


def unranked(usable: Mapping[str, Sequence[int]]) -> tuple[list[Contrast], Counter[str]]:
    """The first two responses to each prompt in the order of their index, for a judge to compare; the margin is 0.

    Args:
        usable: The responses that can form pairs, from ``usable_responses``.
    """
    return [Contrast(prompt_id, (rows[0], rows[1]), Pair(), 0.0) for prompt_id, rows in usable.items()], Counter()


def matched_contrasts(
    usable: Mapping[str, Sequence[int]], rewards: np.ndarray, lengths: np.ndarray, band: float
) -> tuple[list[Contrast], Counter[str]]:
    """The two responses of similar length to each prompt with the largest difference in reward.

    Args:
        usable: The responses that can form pairs, from ``usable_responses``.
        rewards: Ensembled implicit rewards of all candidates [N], in nats without beta.
        lengths: Lengths of all candidates in tokens [N].
        band: Largest difference in length, as a share of the longer response.

    Returns:
        Contrasts, and the numbers of ``prompts without two responses of like length`` and with ``no contrast``.
    """
    found: list[Contrast] = []
    left_out: Counter[str] = Counter()
    for prompt_id, rows in usable.items():
        places = like_length(rewards[list(rows)], lengths[list(rows)], band)
        if places is None:
            left_out["prompts without two responses of like length"] += 1
        else:
            _add(found, left_out, prompt_id, rewards, rows[places[0]], rows[places[1]])
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


def rankings(
    usable: Mapping[str, Sequence[int]], rewards: np.ndarray, least: int = 2
) -> tuple[list[Contrast], Counter[str]]:
    """All responses to each prompt, ranked by reward. Equal rewards are a tie; ``contrasts`` has their order.

    Args:
        usable: The responses that can form pairs, from ``usable_responses``.
        rewards: Ensembled implicit rewards of all candidates [N], in nats without beta.
        least: The fewest responses of a ranking.

    Returns:
        Rankings, and the numbers of ``prompts with fewer than LEAST responses`` and with ``no contrast``.
    """
    found: list[Contrast] = []
    left_out: Counter[str] = Counter()
    for prompt_id, rows in usable.items():
        ranked = sorted(rows, key=lambda row: -rewards[row])
        levels = np.unique(-rewards[ranked], return_inverse=True)[1] + 1
        if len(ranked) < least:
            left_out[f"prompts with fewer than {least} responses"] += 1
        elif levels[-1] == 1:
            left_out["no contrast"] += 1
        else:
            order = Ordering(Numbering(np.array([len(ranked)])), -levels.astype(np.float64))
            margin = float(order.margin(rewards[ranked])[0])
            found.append(Contrast(prompt_id, tuple(ranked), Ranking(tuple(levels.tolist())), margin))
    return found, left_out


def _add(
    found: list[Contrast], left_out: Counter[str], prompt_id: str, rewards: np.ndarray, best: int, worst: int
) -> None:
    margin = float(rewards[best] - rewards[worst])
    if margin > 0:
        found.append(Contrast(prompt_id, (best, worst), Pair(), margin))
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


def generated_examples(
    round_index: int, prompts: datasets.Dataset, candidates: pa.Table, found: Sequence[Contrast]
) -> Iterator[Example]:
    """The pairs or rankings of a round's contrasts, in order; holds the token ids of a few of them at a time."""
    row_of = {prompt_id: row for row, prompt_id in enumerate(prompts["prompt_id"])}
    asked = prompts.select([row_of[contrast.prompt_id] for contrast in found])
    rows = [row for contrast in found for row in contrast.rows]
    responses = _records(candidates, np.array(rows, dtype=np.int64))
    for row, contrast in zip(asked, found, strict=True):
        ranked = list(islice(responses, len(contrast.rows)))
        yield generated_example(round_index, to_prompt(cast(dict[str, Any], row)), ranked, contrast.preference)


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


def _records(table: pa.Table, rows: np.ndarray) -> Iterator[Candidate]:
    for start in range(0, len(rows), CHUNK):
        yield from candidates_of(take_rows(table, rows[start : start + CHUNK]))

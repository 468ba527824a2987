"""The token stage: for some pairs, at which tokens a round's policy differs from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from seralign import distributed
from seralign.data.table import read_table as read_pairs
from seralign.data.table_columns import example_ids, token_rows
from seralign.data.templates import decode
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.foreseen import foreseen, sampled
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import SCORING
from seralign.pipeline.lineage import REFERENCE, trained_in
from seralign.pipeline.stage import Context
from seralign.rewards.cached_logprobs import ScoringPolicy
from seralign.rewards.responses import Responses, plan_scoring
from seralign.rewards.token_logprobs import token_logps
from seralign.runs.figures import TokensFigures
from seralign.runs.files import read_table, write_table
from seralign.runs.layout import BOOTSTRAP, GENERATED, SELECT, SELECTION, TOKEN_RATIOS, TOKENS, round_stage
from seralign.runs.results import result_key

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# The replacement that decoders write for an incomplete character.
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class Tokens:
    """The stage that stores log-ratios log pi - log pi_ref of each token of the responses of some examples, in nats.

    It uses ``evaluation.token_pairs`` pairs, up to half of them generated in the round; all of them if the round trains
    on no others. The log-ratios add up to those of the responses.
    """

    index: int

    @property
    def name(self) -> str:
        """``round-1/tokens``, ..."""
        return round_stage(self.index, TOKENS)

    def inputs(self, context: Context) -> dict[str, str]:
        """Pairs, policy and reference, and what the choice of pairs depends on."""
        loop, run = context.loop, context.run
        inputs = {
            "data": context.reviewed.digest,
            "policy": context.policy(trained_in(self.index)).digest,
            "reference": context.policy(REFERENCE).digest,
        }
        inputs |= loop.settings(*SCORING, "evaluation.token_pairs") | loop.tokenizer_inputs
        parts = [part for part in (SELECT, BOOTSTRAP) if run.exists(round_stage(self.index, part))]
        return inputs | {part: run.record(round_stage(self.index, part)).digest for part in parts}

    def work(self, context: Context, folder: Path) -> TokensFigures:
        """Write tokens and log-ratios of the chosen pairs."""
        loop = context.loop
        table = chosen_pairs(loop, self.index, context.reviewed.pairs, loop.config.evaluation.token_pairs)
        policy, reference = context.policy(trained_in(self.index)), context.policy(REFERENCE)
        ratios = _ratios(loop, policy, reference, Responses(table))
        if distributed.is_main():
            write_table(folder / TOKEN_RATIOS, _columns(loop, table, ratios))
        return TokensFigures(len(table))

    def cost(self, forecast: Forecast) -> StageWork:
        """Passes over the pairs under both policies. Offline pairs stand for generated ones, which do not exist yet.

        Assumes that the reference has scored none of them in an earlier round.
        """
        loop, config = forecast.loop, forecast.config
        if config.bootstrap is not None and config.generates_all:
            prompts = forecast.context.tables.prompts
            count = min(config.evaluation.token_pairs, len(prompts), config.bootstrap.prompts or len(prompts))
            # With a segment of SAPO, a response is as long as its demonstration.
            limit = None if config.bootstrap.method == "sapo" else config.bootstrap.sampling.limit
            lengths = forecast.lengths if limit is None else forecast.lengths.within(limit)
            both = sampled(self.name, prompts.select(range(count)), 2, lengths.mean)
        else:
            count = min(config.evaluation.token_pairs, len(forecast.pairs))
            both = foreseen(forecast.pairs.select(range(count)))
        packs = plan_scoring(both.as_responses(), loop.config.scoring.tokens_per_pack, loop.packed_length)
        passes = forecast.passes(both, packs)
        return StageWork(self.name, count, "pairs", passes=(passes, passes), loads=2)


def chosen_pairs(loop: Loop, index: int, pairs: datasets.Dataset, count: int) -> datasets.Dataset:
    """The pairs of the stage: up to half of ``count`` generated in the round, the rest offline."""
    selected, bootstrapped = round_stage(index, SELECT), round_stage(index, BOOTSTRAP)
    tables = []
    if loop.run.exists(bootstrapped):
        made = read_pairs(loop.run.path(bootstrapped, GENERATED))
        if loop.config.generates_all:
            return made.select(spread(_margins(loop, bootstrapped), count).tolist())
        tables.append(made.select(spread(_margins(loop, bootstrapped), count // 2).tolist()))
        count -= len(tables[0])
    margins = _margins(loop, selected) if loop.run.exists(selected) else np.zeros(len(pairs))
    return datasets.concatenate_datasets([pairs.select(spread(margins, count).tolist()), *tables])


def spread(margins: np.ndarray, count: int) -> np.ndarray:
    """Rows [min(count, N)]: a quarter with the largest ``margins`` [N], a quarter with the smallest, the rest evenly
    between."""
    order = np.argsort(-margins, kind="stable")
    if count >= len(order):
        return order
    ends = count // 4
    middle = order[ends : len(order) - ends]
    wanted = count - 2 * ends
    between = middle[np.arange(wanted) * len(middle) // max(wanted, 1)]
    return np.concatenate([order[:ends], between, order[len(order) - ends :]])


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The text that each token adds; joined, they are the whole text. The last token of a character adds it.

    Decoders remove or add spaces at the start of a text, so each token is decoded together with the one before it.
    """
    texts = []
    start = read = 0
    for end in range(1, len(ids) + 1):
        text = decode(tokenizer, ids[start:end])
        if text.endswith(_INCOMPLETE) and end < len(ids):
            texts.append("")
            continue
        texts.append(text[len(decode(tokenizer, ids[start:read])) :])
        start, read = read, end
    return texts


def _margins(loop: Loop, stage: str) -> np.ndarray:
    return read_table(loop.run.path(stage, SELECTION), ["margin"])["margin"].to_numpy()


def _ratios(loop: Loop, policy: Policy, reference: Policy, responses: Responses) -> list[np.ndarray]:
    """Log-ratios of the tokens of each response. Every process calls it."""
    own, against = (_token_logps(loop, each, responses) for each in (policy, reference))
    return [mine - theirs for mine, theirs in zip(own, against, strict=True)]


def _columns(loop: Loop, table: datasets.Dataset, ratios: list[np.ndarray]) -> dict[str, Any]:
    """``example_id``, and for each response of an example its tokens as text and their log-ratios."""
    responses = Responses(table)
    texts = [token_texts(loop.tokenizer, ids.tolist()) for _, responses in token_rows(table) for ids in responses]
    by_row = [ratios[number] for number in responses.numbering.by_row]
    offsets = pa.array(np.concatenate([[0], np.cumsum(responses.numbering.counts)]), pa.int32())
    return {
        "example_id": example_ids(table),
        "tokens": pa.ListArray.from_arrays(offsets, pa.array(texts, pa.list_(pa.string()))),
        "ratios": pa.ListArray.from_arrays(offsets, pa.array(by_row, pa.list_(pa.float32()))),
    }


def _token_logps(loop: Loop, policy: Policy, responses: Responses) -> list[np.ndarray]:
    """Log-probabilities of each token of each response, in the precision of scoring.

    They are stored with the run's results, so the reference computes a pair once, even if several rounds choose it.
    Stored pairs are left out of the packs.
    """
    scoring = loop.scoring_policy(policy)
    keys: list[bytes] = responses.keys.tolist()
    names = [result_key("log-probabilities of tokens", [scoring.key, key.hex()]) for key in keys]
    stored = list(loop.results.get(list(dict.fromkeys(names)))) if distributed.is_main() else []
    found = dict(distributed.broadcast(stored))
    missing = responses.numbering.rows[np.flatnonzero([name not in found for name in names])]
    if len(missing):
        some = Responses(responses.table.select(np.unique(missing).tolist()))
        made = _computed(loop, scoring, some)
        new = {name: made[key] for name, key in zip(names, keys, strict=True) if name not in found}
        if distributed.is_main():
            loop.results.put(new)
        found |= new
    return [np.array(found[name]) for name in names]


def _computed(loop: Loop, scoring: ScoringPolicy, responses: Responses) -> dict[bytes, list[float]]:
    packs = responses.packs(loop.config.scoring.tokens_per_pack, loop.packed_length)
    _, tokens = token_logps(responses, packs, scoring)
    each = np.split(tokens.values, np.cumsum(responses.lengths)[:-1].astype(np.int64))
    # Packs have one of several equal responses, so the others have no values.
    keys: list[bytes] = responses.keys.tolist()
    return {keys[number]: each[number].tolist() for pack in packs for number in pack}

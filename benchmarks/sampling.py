"""Sampling: transformers' ``generate``, its continuous batching, and this library's loop over a shared cache.

    python -m benchmarks.sampling --json FILE [--threads N]

The three take turns with the same random model, prompts and limits; a response ends with any of so many tokens that
its length is geometric. Continuous batching runs in a process of its own: it slows down what its process does after
it. ``equal``: on a vocabulary of six tokens, ``generate`` and the loop draw whole responses with exactly the
probabilities that the model gives them (chi-square), and prompts of several lengths do not disturb each other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

from seralign.policy.decoding import decode, pad_left
from seralign.policy.draws import draw, uniforms

SMALLEST_P = 1e-4
# Start of the process included; a turn that takes longer is left out of the figures.
CONTINUOUS_SECONDS = 40.0


@dataclass(frozen=True)
class Work:
    """A model and what is sampled from it.

    ``prompts``: their number, and the lengths of the shortest and the longest; ``samples`` responses to each, of
    ``longest`` tokens at most and about ``mean`` if there were no limit; ``turns`` of each side are counted. The model
    has a random adapter of this ``rank``; 0 is none.
    """

    name: str
    shape: dict[str, Any]
    dtype: str
    prompts: tuple[int, int, int]
    samples: int
    longest: int
    mean: float
    turns: int
    rank: int = 0


CLAUSES = {
    "vocab_size": 60, "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
SMALL = {
    "vocab_size": 16384, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
    "num_attention_heads": 6, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
WORKS = (
    Work("17M", SMALL, "float32", (16, 40, 200), 4, 64, 32.0, turns=3),
    Work("17M bfloat16", SMALL, "bfloat16", (16, 40, 200), 4, 64, 32.0, turns=2),
    Work("clause world", CLAUSES, "float32", (32, 8, 24), 4, 32, 16.0, turns=9),
    Work("135M bfloat16, adapter", SMOLLM2, "bfloat16", (16, 40, 80), 4, 32, 32.0, turns=1, rank=16),
)

Responses = list[list[int]]


def generate(
    model: Any, prompts: Sequence[list[int]], samples: int, longest: int, ends: list[int], seed: int
) -> Responses:
    """One call of transformers' ``generate`` on left-padded prompts."""
    ids, mask = pad_left(prompts)
    model.generation_config = GenerationConfig()
    torch.manual_seed(seed)
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=_settings(samples, longest, ends))
    return _cut(output[:, ids.shape[1] :].tolist(), ends)


def continuous(
    model: Any, prompts: Sequence[list[int]], samples: int, longest: int, ends: list[int], seed: int
) -> Responses:
    """transformers' continuous batching."""
    torch.manual_seed(seed)
    room = sum(map(len, prompts)) + len(prompts) * samples * longest
    found = model.generate_batch(
        inputs=list(prompts),
        generation_config=_settings(samples, longest, ends),
        continuous_batching_config=ContinuousBatchingConfig(max_batch_tokens=1024, num_blocks=max(64, room // 128)),
        warmup=False,
    )
    return _cut([list(one.generated_tokens) for one in found.values()], ends)


def ours(model: Any, prompts: Sequence[list[int]], samples: int, longest: int, ends: list[int], seed: int) -> Responses:
    """The loop of ``seralign.policy.decoding``."""
    numbers = uniforms(seed, [str(at) for at in range(len(prompts))], samples, longest)
    choose = partial(draw, temperature=1.0, top_p=1.0)
    return _cut(decode(model, prompts, numbers, choose, frozenset(ends)).tolist(), ends)


def measure(work: Work, threads: int) -> dict[str, Any]:
    """Seconds, responses and tokens of every side's turns, and the ratios of their medians."""
    sides = {"generate": generate, "seralign": ours}
    model, prompts, ends = _prepared(work)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for side in sides.values():
        side(model, prompts, work.samples, 4, ends, 0)
    for turn in range(work.turns):
        for name, side in sides.items():
            rates[name].append(_timed(side, work, model, prompts, ends, turn))
    with multiprocessing.get_context("spawn").Pool(1) as pool, contextlib.suppress(multiprocessing.TimeoutError):
        turn = pool.apply_async(_continuous_turn, (work, threads))
        rates["continuous batching"] = [turn.get(CONTINUOUS_SECONDS)]
    medians = {
        name: {
            "responses_per_second": round(statistics.median(each[0] for each in turns), 2),
            "tokens_per_second": round(statistics.median(each[1] for each in turns), 1),
        }
        for name, turns in rates.items()
    }
    ratios = {
        name: round(medians["seralign"]["tokens_per_second"] / each["tokens_per_second"], 2)
        for name, each in medians.items()
    }
    responses = medians["seralign"]["responses_per_second"] / medians["generate"]["responses_per_second"]
    return medians | {"times_as_many_tokens": ratios, "times_as_many_responses": round(responses, 2)}


def smallest_p(side: Any) -> float:
    """The least p-value of prompts of two lengths sampled together, against exact probabilities of two tokens."""
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=6, initializer_range=0.15, pad_token_id=None, **shape)).eval()
    prompts, draws = [[4], [3, 5, 4, 4, 5, 3, 4]], 4000
    drawn = side(model, prompts, draws, 2, [0], 0)
    values = []
    for at, prompt in enumerate(prompts):
        counts = Counter(map(tuple, drawn[at * draws : (at + 1) * draws]))
        expected: dict[tuple[int, ...], float] = {}
        for first, chance in enumerate(_next(model, prompt)):
            if first == 0:
                expected[(0,)] = chance
                continue
            for second, further in enumerate(_next(model, [*prompt, first])):
                expected[(first, second)] = chance * further
        values.append(chisquare([counts[ids] for ids in expected], [p * draws for p in expected.values()]).pvalue)
    return float(min(values))


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    chances = {"generate": smallest_p(generate), "seralign": smallest_p(ours)}
    found = {}
    for work in WORKS:
        found[work.name] = measure(work, given.threads)
        print(work.name, json.dumps(found[work.name]), flush=True)
    figures = {
        "ratio_speed": found[WORKS[0].name]["times_as_many_responses"],
        "equal": min(chances.values()) > SMALLEST_P,
        "smallest_p": chances,
        "threads": given.threads,
        **found,
    }
    print(json.dumps(figures, indent=1))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _settings(samples: int, longest: int, ends: list[int]) -> GenerationConfig:
    return GenerationConfig(
        do_sample=True, top_k=0, num_return_sequences=samples, max_new_tokens=longest, eos_token_id=ends,
        pad_token_id=ends[0],
    )  # fmt: skip


def _cut(rows: Responses, ends: list[int]) -> Responses:
    ended = set(ends)
    return [ids[: next((at + 1 for at, token in enumerate(ids) if token in ended), None)] for ids in rows]


def _prepared(work: Work) -> tuple[Any, Responses, list[int]]:
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**work.shape)).to(getattr(torch, work.dtype)).eval()
    if work.rank:
        adapter = LoraConfig(r=work.rank, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(model, adapter).eval()
    count, shortest, longest = work.prompts
    size = work.shape["vocab_size"]
    lengths = torch.linspace(shortest, longest, count).int().tolist()
    # A random model's next token is nearly uniform: this many ends make the wanted mean length.
    return (
        model,
        [torch.randint(0, size, (length,)).tolist() for length in lengths],
        list(range(round(size / work.mean))),
    )


def _timed(side: Any, work: Work, model: Any, prompts: Responses, ends: list[int], seed: int) -> tuple[float, float]:
    began = time.perf_counter()
    found = side(model, prompts, work.samples, work.longest, ends, seed + 1)
    seconds = time.perf_counter() - began
    return len(found) / seconds, sum(map(len, found)) / seconds


def _continuous_turn(work: Work, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    return _timed(continuous, work, *_prepared(work), 0)


def _next(model: Any, ids: list[int]) -> list[float]:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(dim=0).tolist()


if __name__ == "__main__":
    main()

"""What ``benchmarks.growth`` measures, each function in a process of its own.

The figures are plain JSON values. Memory is resident memory in MiB as the kernel counts it: ``peak_mb`` of the process,
``added_mb`` what the work added to libraries, model and data that were there before.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.workers import peak_memory_mb
from seralign.config import DataConfig, ScoringConfig, SelectionConfig, SourceConfig
from seralign.data.prepare import prepare_pairs
from seralign.data.table import read_table
from seralign.data.tokens import make_encoder
from seralign.objectives import DPO, ResponseValues
from seralign.policy.abilities import abilities
from seralign.policy.head import linear_logps
from seralign.policy.load import mixed_precision
from seralign.policy.logprobs import response_logps
from seralign.policy.packing import pack_sequences, pad_sequences
from seralign.rewards.cached_logprobs import ScoringPolicy, logps
from seralign.rewards.responses import Responses, plan_scoring
from seralign.rewards.scored_pairs import scored_pairs
from seralign.rewards.selection import select
from seralign.runs.cache import LogpCache

PATHS = {"packed": pack_sequences, "padded": pad_sequences}
CANDIDATE_TOKENS = (400, 80)
HEAD_TOKENS, HEAD_WIDTH = 512, 128
# Work is repeated for so many seconds, and no more often than this; the median counts.
_SECONDS, _MOST = 1.0, 5

Sequences = list[tuple[list[int], list[int]]]


# --- pairs


def data_stage(rows: Path, table: Path, tokenizer_folder: Path) -> dict[str, Any]:
    """Rows read, tokenized and written as the table of pairs."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    encoder = make_encoder(tokenizer, DataConfig(), frozenset({tokenizer.eos_token_id}))
    with measured() as found:
        _, report = prepare_pairs(SourceConfig(str(rows)), encoder, table, "data.pairs")
    if report.dropped:
        raise RuntimeError(f"rows were dropped: {report.dropped}")
    return found | {"pairs": report.kept}


def scoring_stage(table: Path, cache: Path, vocabulary: int) -> dict[str, Any]:
    """Both responses of every pair, planned, scored by a model of next to no work, and stored in the cache."""
    model = llama(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=1
    )
    longest = abilities(model).longest
    with measured() as found:
        responses = Responses(read_table(table))
        packs = plan_scoring(responses, ScoringConfig().tokens_per_pack, longest)
        store = LogpCache(cache)
        values = logps(responses, packs, ScoringPolicy("policy", "growth", lambda: model), store)
        store.close()
    if np.isnan(values).any():
        raise RuntimeError("a response has no log-probability")
    return found | {"pairs": len(values) // 2, "packs": len(packs)}


def selection_stage(table: Path) -> dict[str, Any]:
    """All pairs ranked by random margins; 70% are kept."""
    pairs = read_table(table)
    with measured() as found:
        margins = np.random.default_rng(0).normal(size=len(pairs))
        kept = select(scored_pairs(pairs, margins), SelectionConfig(), seed=0).kept
    return found | {"pairs": len(pairs), "kept": len(kept)}


# --- sequence length, vocabulary, candidates


def training_pair(length: int, path: str) -> dict[str, Any]:
    """Forward and backward pass of one pair of ``length`` tokens: half of them prompt, a quarter each response."""
    model = llama()
    model.train()
    token = _tokens(0)
    prompt = token(length // 2)
    batch = PATHS[path]([(prompt, token(length // 4)) for _ in range(2)])

    def work(batch: dict[str, Tensor] = batch) -> Tensor:
        model.zero_grad(set_to_none=True)
        found = response_logps(model, **batch)
        (-found.mean()).backward()
        return found.detach()

    work(PATHS[path]([(prompt[:8], prompt[:8])]))
    with measured() as found:
        seconds, value = _median(work)
    figures = {"tokens": length, "seconds": seconds, "seconds_a_token": seconds / length}
    return found | figures | {"logps": value.tolist()}


def output_layer(vocabulary: int, path: str) -> dict[str, Any]:
    """Forward and backward pass of the output layer alone, in chunks, or with all logits in float32."""
    torch.manual_seed(0)
    hidden = torch.randn(HEAD_TOKENS, HEAD_WIDTH, requires_grad=True)
    layer = nn.Linear(HEAD_WIDTH, vocabulary, bias=False)
    targets = torch.randint(vocabulary, (HEAD_TOKENS,))

    def work(rows: int = HEAD_TOKENS) -> Tensor:
        layer.weight.grad = hidden.grad = None
        if path == "chunked":
            found = linear_logps(layer, hidden[:rows], targets[:rows])
        else:
            log_probabilities = torch.log_softmax(layer(hidden[:rows]).float(), dim=1)
            found = log_probabilities.gather(1, targets[:rows, None])[:, 0]
        found.sum().backward()
        return found.detach()

    work(4)
    with measured() as found:
        seconds, value = _median(work)
    figures = {"vocabulary": vocabulary, "seconds": seconds, "seconds_a_token": seconds / HEAD_TOKENS}
    return found | figures | {"logps": [float(value.double().sum())]}


def candidate_scores(counts: list[int], turns: int) -> list[dict[str, Any]]:
    """Log-probabilities of R candidates for one prompt, packed and padded in turns."""
    model = llama().eval()
    prompt_length, response_length = CANDIDATE_TOKENS
    token = _tokens(0)
    prompt = token(prompt_length)
    found = []
    for count in counts:
        sequences = [(prompt, token(response_length)) for _ in range(count)]
        seconds: dict[str, list[float]] = {path: [] for path in PATHS}
        values: dict[str, list[float]] = {}
        with torch.no_grad():
            for turn in range(turns + 1):
                for path in PATHS if turn % 2 else reversed(PATHS):
                    began = time.perf_counter()
                    values[path] = response_logps(model, **PATHS[path](sequences)).tolist()
                    if turn:  # the first warms up
                        seconds[path].append(time.perf_counter() - began)
        each = {f"{path}_seconds_a_candidate": statistics.median(own) / count for path, own in seconds.items()}
        found.append({"candidates": count, "logps": values} | each)
    return found


# --- one training step


def training_step(folder: Path, tokens: int, precision: str) -> dict[str, Any]:
    """Where the time of a training step goes, and the share of the machine's matrix product rate that it reaches."""
    from benchmarks.growth_profile import categories, matrix_rates

    model = LlamaForCausalLM.from_pretrained(folder).train()
    abilities(model)  # found out in full precision
    batch, response_tokens = _pack_of_pairs(tokens, model.config.vocab_size)
    objective = DPO(0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    lengths = batch["lengths"]
    pairs = len(lengths) // 2
    # Their values change nothing of the work.
    reference = torch.zeros(len(lengths), dtype=torch.float64)

    def step() -> None:
        with mixed_precision(precision, model):
            values = response_logps(model, **batch)
        certain = torch.ones_like(values)
        responses = ResponseValues(values, reference, lengths, torch.arange(pairs).repeat(2), certain, pairs)
        objective.loss(responses).mean().backward()
        with torch.profiler.record_function("optimizer"):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    step()
    rates = matrix_rates()
    seconds = [_seconds(step) for _ in range(_MOST)]
    shares = categories(step)
    rates_after = matrix_rates()
    rates = {name: statistics.mean([rate, rates_after[name]]) for name, rate in rates.items()}
    head = model.lm_head.weight.numel()
    body = model.num_parameters() - head  # the embeddings are the head's weights
    row = batch["input_ids"].numel()
    work = 6 * body * row + 6 * head * response_tokens
    median = statistics.median(seconds)
    return {
        "tokens": row,
        "response_tokens": response_tokens,
        "pairs": pairs,
        "body_parameters": body,
        "head_parameters": head,
        "seconds": median,
        "tokens_a_second": row / median,
        "shares": shares,
        "matrix_gflops_a_second": rates,
        "step_gflop": work / 1e9,
        "step_gflops_a_second": work / 1e9 / median,
        "share_of_rate": {
            name: work / 1e9 / median / rate for name, rate in rates.items() if name.startswith(precision)
        },
        "formula": "6 * body_parameters * tokens + 6 * head_parameters * response_tokens; attention's own products "
        "are not counted",
    }


# --- their tools


def llama(**settings: Any) -> LlamaForCausalLM:
    """A random Llama of two layers; width 64 and 1,000 tokens where the settings say nothing else."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 65536,
    }
    return LlamaForCausalLM(LlamaConfig(**shape | settings))


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Seconds and memory of a block; ``added_without_files_mb`` leaves out pages of memory-mapped files, which the
    kernel takes back when it needs them. It is sampled, the others are not."""
    found: dict[str, Any] = {}
    before, own_before, samples, done = _status_mb("VmRSS"), _status_mb("RssAnon"), [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            samples.append(_status_mb("RssAnon"))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    began = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - began
    found["peak_mb"] = round(peak_memory_mb(), 1)
    found["added_mb"] = round(found["peak_mb"] - before, 1)
    samples.append(_status_mb("RssAnon"))
    done.set()
    sampler.join()
    found["added_without_files_mb"] = round(max(samples) - own_before, 1)


def _status_mb(field: str) -> float:
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


def _tokens(seed: int) -> Callable[[int], list[int]]:
    random = np.random.default_rng(seed)
    return lambda count: random.integers(0, 1000, count).tolist()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _median(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Median seconds of the work, and its last value."""
    seconds: list[float] = []
    while True:
        began = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - began)
        if len(seconds) == _MOST or sum(seconds) > _SECONDS:
            return statistics.median(seconds), value


def _pack_of_pairs(tokens: int, vocabulary: int) -> tuple[dict[str, Tensor], int]:
    """Pairs of the lengths of short chats until they have ``tokens`` tokens: chosen responses, then rejected ones."""
    random = np.random.default_rng(0)
    chosen: Sequences = []
    rejected: Sequences = []
    used = 0
    while used < tokens:
        lengths = (int(random.integers(20, 120)), int(random.integers(100, 350)), int(random.integers(100, 350)))
        prompt, first, second = (random.integers(4, vocabulary, length).tolist() for length in lengths)
        chosen.append((prompt, first))
        rejected.append((prompt, second))
        used += sum(lengths)
    batch = pack_sequences(chosen + rejected)
    return batch, int(batch["lengths"].sum())

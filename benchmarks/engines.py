"""Tokens a second of the sampling engines: ``local``, ``server`` with ``transformers serve``, and ``vllm``.

    python -m benchmarks.engines --json FILE [--vllm .venv-vllm/bin/python] [--pairs FILE] [--threads N]
    python -m benchmarks.engines --json FILE --vllm .venv-vllm/bin/python --rounds

Each samples ``--size`` prompts of AlpacaEval four times, at most 64 tokens, from the same random Llama of 17 million
parameters in float32. Its responses do not end before the limit. The time is that of a whole sampling as a run does it,
with the proof that the server has the policy's weights; the start of a server is measured apart. ``kept`` is the number
of responses that came back as token ids of the policy: a server of text gives broken characters of a random model
only once. All tokens are counted, also those of responses that are dropped. Without ``--vllm`` that engine is left out.

``--rounds`` measures the seconds of two rounds instead, each with an adapter of its own, of rank 16, on that model. One
server loads both adapters, or a server is started on the merged weights of each. Starts and ends are included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import PAIRS, machine
from benchmarks.workers import pin

SAMPLES, TOKENS = 4, 64


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The figures of each engine, and ratios to ``local``."""
    import torch

    from seralign.sampling.vllm import _KEEPER

    torch.set_num_threads(given.threads)
    prompts, parameters = prepared(given, scratch)
    found: dict[str, Any] = {"local": sampled(scratch, "local", {}, prompts, given.threads)}
    with served(scratch / "model", given.threads) as (url, seconds):
        options = {"url": url, "model": str(scratch / "model"), "timeout": 300.0}
        server = sampled(scratch, "server", options, prompts, given.threads)
    found["server, transformers serve"] = server | {"start_seconds": seconds}
    if given.vllm is not None:
        options = vllm_options(given)
        start = time.perf_counter()
        sampled(scratch, "vllm", options, prompts[:2], given.threads)
        seconds = time.perf_counter() - start
        found["vllm"] = sampled(scratch, "vllm", options, prompts, given.threads) | {"start_seconds": seconds}
        _KEEPER.release()
    for figures in found.values():
        figures["ratio_to_local"] = figures["tokens_per_second"] / found["local"]["tokens_per_second"]
    return work(prompts, parameters) | {"engines": found}


def measure_rounds(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The seconds of two rounds with either way to serve an adapter."""
    from seralign.sampling.vllm import _KEEPER

    prompts, parameters = prepared(given, scratch)
    adapters = [save_adapter(scratch, seed) for seed in (0, 1)]
    found = {}
    for name, loads in (("one server, adapters loaded", True), ("a server of each round", False)):
        options, kept, seconds = vllm_options(given) | {"adapters": loads}, 0, []
        for adapter in adapters:
            start = time.perf_counter()
            kept += sampled(scratch, "vllm", options, prompts, given.threads, adapter)["kept"]
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        _KEEPER.release()
        found[name] = {"seconds": sum(seconds) + time.perf_counter() - start, "of_rounds": seconds, "kept": kept}
        print(json.dumps({name: found[name]}), flush=True)
    return work(prompts, parameters) | {"rounds": found}


def work(prompts: list[str], parameters: int) -> dict[str, int]:
    """What was sampled."""
    return {"prompts": len(prompts), "samples": SAMPLES, "tokens_per_response": TOKENS, "parameters": parameters}


def vllm_options(given: argparse.Namespace) -> dict[str, Any]:
    """Options of the engine ``vllm`` on a processor."""
    return {
        "python": str(given.vllm), "max_length": 512, "arguments": ["--enforce-eager", "--no-enable-chunked-prefill"],
        "env": {"VLLM_CPU_KVCACHE_SPACE": "2", "OMP_NUM_THREADS": str(given.threads)},
    }  # fmt: skip


def prepared(given: argparse.Namespace, scratch: Path) -> tuple[list[str], int]:
    """Save the model; returns the prompts and the number of its parameters."""
    from benchmarks.inputs import read_pairs, texts
    from benchmarks.models import prepare_model

    rows = read_pairs(given.pairs)
    tokenizer, parameters = prepare_model(None, scratch / "model", texts(rows))
    prompts = []
    for text in dict.fromkeys(row["prompt"] for row in rows):
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        if len(tokenizer(rendered)["input_ids"]) <= 256:  # pyright: ignore
            prompts.append(rendered)
    return prompts[: given.size], parameters


def save_adapter(scratch: Path, seed: int) -> str:
    """Save an adapter of rank 16 on all linear layers, which changes the output; returns its folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(scratch / "model"), settings)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    folder = scratch / f"adapter-{seed}"
    model.save_pretrained(str(folder))
    return str(folder)


def sampled(
    scratch: Path, engine: str, options: dict[str, Any], prompts: list[str], threads: int, adapter: str | None = None
) -> dict[str, Any]:
    """Sample the prompts once; responses are stored nowhere."""
    import torch

    from seralign.config import PolicyConfig, SamplingConfig
    from seralign.policy.identity import PolicySource, weights_digest
    from seralign.policy.load import load_model, load_tokenizer
    from seralign.records import Prompt
    from seralign.sampling import Request, SampledPolicy, make_sampler, params_of

    torch.set_num_threads(threads)
    source, config = PolicySource(str(scratch / "model"), adapter=adapter), PolicyConfig()
    tokenizer = load_tokenizer(source, config)
    end: Any = tokenizer.eos_token_id
    load = partial(load_model, source, config, "float32")
    policy = SampledPolicy("policy", source, "float32", "default", tokenizer, frozenset({end}), load, config)
    settings = SamplingConfig(engine=engine, engine_options=options, max_new_tokens=TOKENS)
    sampler = make_sampler(policy, settings, "bootstrap")
    records = [
        Prompt(f"p{number}", text, tuple(tokenizer(text, add_special_tokens=False)["input_ids"]))  # pyright: ignore
        for number, text in enumerate(prompts)
    ]
    size, params = sampler.prompts_per_request, params_of(settings, SAMPLES)
    batches = [tuple(records[start : start + size]) for start in range(0, len(records), size)]
    digest = weights_digest(source)
    requests = (Request(digest, sampler.identity, batch, params, policy.end_tokens, 0) for batch in batches)
    start = time.perf_counter()
    kept = sum(len(candidates) for _, candidates in sampler.sample(requests))
    seconds = time.perf_counter() - start
    tokens = len(prompts) * SAMPLES * TOKENS
    return {"seconds": seconds, "tokens_per_second": tokens / seconds, "kept": kept, "of": len(prompts) * SAMPLES}


@contextmanager
def served(folder: Path, threads: int) -> Iterator[tuple[str, float]]:
    """``transformers serve`` of a folder: its address, and the seconds until it was ready."""
    from seralign.servers.process import Launch, free_port, running

    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu", "--log-level", "error"]  # fmt: skip
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    launch = Launch("transformers serve", command, f"http://127.0.0.1:{port}/health", environment)
    with running(launch, "benchmarks.engines"):
        yield f"http://127.0.0.1:{port}/v1", time.perf_counter() - start


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--pairs", type=Path, default=PAIRS, help="data of the same format")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--size", type=int, default=32, help="prompts (default 32)")
    parser.add_argument("--vllm", type=Path, help="the Python of vLLM's environment (make test-vllm)")
    parser.add_argument("--rounds", action="store_true", help="measure two rounds of adapters through vLLM instead")
    given = parser.parse_args()
    if given.rounds and given.vllm is None:
        parser.error("--rounds needs --vllm")
    pin(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        figures = {"benchmark": "engines"} | (measure_rounds if given.rounds else measure)(given, Path(scratch))
    text = json.dumps(figures | {"threads": given.threads} | machine("float32"), indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

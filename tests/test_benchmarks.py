"""The benchmarks' own arithmetic: alternation, ratios, the check of equality, the data; nothing is timed here."""

from __future__ import annotations

import argparse
import json
import math
import operator
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common, growth_parts, growth_profile, inputs, models, train_gpu
from benchmarks import label as label_benchmark
from benchmarks.common import (
    BFLOAT16,
    Check,
    Repetition,
    alternate,
    comparison,
    largest_difference,
    require_same_tokens,
)
from benchmarks.jobs import digest, step_ends, trained
from benchmarks.million_plot import stages_svg
from benchmarks.round import choice_gap, round_checks
from benchmarks.round_job import Round, RoundJob
from benchmarks.round_model import bias, end_odds, save_ending_model
from benchmarks.round_peer import best_and_worst, top
from benchmarks.scoring import score_checks
from benchmarks.training import loss_checks, loss_tolerance
from benchmarks.workers import Worker, peak_memory_mb
from seralign.policy.speed import Rates, processor_name

PAIRS = Path(__file__).resolve().parents[2] / "shared" / "data" / "alpaca_eval_pairs.jsonl.gz"
LN2 = math.log(2)


def test_sides_alternate_and_take_turns_in_beginning() -> None:
    said: list[str] = []

    def side(name: str, seconds: float) -> Any:
        def turn() -> Repetition:
            said.append(name)
            return Repetition(10, seconds)

        return turn

    peer, ours = alternate(side("peer", 5.0), side("ours", 2.0), 3)
    assert said == ["peer", "ours", "ours", "peer", "peer", "ours"]
    assert [turn.rate for turn in peer] == [2.0] * 3
    assert [turn.rate for turn in ours] == [5.0] * 3


def test_ratios_are_of_medians_and_ours_over_the_peers() -> None:
    peer = [Repetition(10, seconds) for seconds in (10.0, 5.0, 100.0)]  # 1, 2, 0.1 a second
    ours = [Repetition(10, seconds) for seconds in (2.0, 2.5, 0.1)]  # 5, 4, 100 a second
    figures = comparison(peer, ours, (200.0, 150.0), [Check("losses", 0.1, 0.2)])
    assert figures["ratio_speed"] == 5.0
    assert figures["ratio_memory"] == 0.75
    assert figures["ratio_speed_of_each_repetition"] == [5.0, 2.0, 1000.0]
    assert figures["equal"] is True
    assert figures["peer"] == {
        "rate_median": 1.0,
        "rates": [1.0, 2.0, 0.1],
        "seconds": [10.0, 5.0, 100.0],
        "amount": 10,
        "peak_memory_mb": 200,
    }
    assert set(figures) == {
        "ratio_speed", "ratio_memory", "equal", "ratio_speed_of_each_repetition", "checks", "peer", "ours",
    }  # fmt: skip


@pytest.mark.parametrize(
    "checks",
    [
        [],
        [Check("one", 0.3, 0.2)],
        [Check("one", 0.1, 0.2), Check("two", 0.3, 0.2)],
        [Check("one", math.nan, 0.2)],
    ],
)
def test_sides_are_equal_only_if_all_was_checked_and_passed(checks: list[Check]) -> None:
    turns = [Repetition(1, 1.0)]
    assert comparison(turns, turns, (1.0, 1.0), checks)["equal"] is False


def test_largest_difference_is_scaled_and_tells_what_is_not_finite() -> None:
    assert largest_difference([1.0, 4.0], [1.5, 2.0]) == 2.0
    assert largest_difference([1.0, 4.0], [1.5, 2.0], [0.5, 4.0]) == 1.0
    assert math.isnan(largest_difference([1.0, math.nan], [1.0, 1.0]))
    with pytest.raises(ValueError, match="shorter"):
        largest_difference([1.0, 2.0], [1.0])


def test_tolerance_of_the_loss() -> None:
    """Four times beta / 2 = 0.05 times sqrt(800 / 8) = 10 units of 2^-8: 2 / 256."""
    assert loss_tolerance(800) == pytest.approx(2 / 256)


def passes(peer: list[list[float]], ours: list[list[float]]) -> list[bool]:
    return [check.passed for check in loss_checks(peer, ours, 800)]


def test_loss_curves_are_equal_within_rounding_and_only_so() -> None:
    curve = [LN2, 0.6, 0.5]
    assert passes([curve, curve], [curve, [LN2, 0.601, 0.496]]) == [True, True]
    assert passes([curve, curve], [curve, [LN2, 0.6, 0.51]]) == [False, True]
    assert passes([curve], [[LN2, 0.5, 0.6]]) == [False, True]
    assert passes([curve], [[LN2, math.nan, 0.5]]) == [False, True]
    flat = [LN2, LN2 + 0.001, LN2 - 0.001]
    assert passes([flat], [flat]) == [True, False], "a loss that does not move says nothing"


def score_passes(ours: list[float], exact: list[list[float]]) -> list[bool]:
    """Two rows, chosen and rejected, of 100 tokens, so that a unit of rounding is 10 / 256."""
    peer = [-100.0, -200.0, -110.0, -190.0]
    return [check.passed for check in score_checks([peer], [ours], exact, [100] * 4, columns=2, precision="bfloat16")]


def test_scores_are_equal_within_rounding_and_only_so() -> None:
    few = [-100.0 + 5 * BFLOAT16, -110.0]  # the first row in float32: bfloat16 was half a unit off, one is allowed
    near, far = -190.0 + 9 * BFLOAT16, -190.0 - 11 * BFLOAT16
    assert score_passes([-100.0, -200.0, -110.0, near], [few, few]) == [True, True, True]
    assert score_passes([-100.0, -200.0, -110.0, far], [few, few]) == [False, True, True]
    assert score_passes([-100.0, -200.0, -110.0, math.nan], [few, few]) == [False, True, True]
    same = [-100.0, -200.0, -110.0, -190.0]
    assert score_passes(same, [few, [few[0] - 0.002, few[1]]]) == [True, False, True]
    assert score_passes(same, [few, [few[0] - 0.002, few[1] + 0.002]]) == [True, False, False]
    assert score_passes(same, [few, [few[0] - 0.0005, few[1] - 0.0005]]) == [True, True, True]


def test_in_float32_all_repetitions_agree_to_float32s_rounding() -> None:
    peer, exact = [-100.0, -200.0, -110.0, -190.0], [[-100.0, -110.0]] * 2

    def passed(last: float) -> bool:
        ours = [*peer[:3], last]
        first, *_ = score_checks([peer], [ours], exact, [100] * 4, columns=2, precision="float32")
        return first.passed

    assert passed(-190.0 - 0.0018)
    assert not passed(-190.0 - 0.0020)


@pytest.mark.parametrize(
    ("given", "rates", "expected"),
    [
        ("auto", Rates(80.0, 1.2), "float32"),
        ("auto", Rates(187.0, 419.0), "bfloat16"),
        ("bfloat16", Rates(80.0, 1.2), "bfloat16"),
        ("float32", Rates(187.0, 419.0), "float32"),
    ],
)
def test_the_precision_is_the_machines_unless_it_is_given(
    given: str, rates: Rates, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "processor_rates", lambda shape: rates)
    parser = argparse.ArgumentParser()
    common.add_precision(parser)
    options = [] if given == "auto" else ["--precision", given]
    assert common.precision(parser.parse_args(options).precision) == expected


def test_figures_name_the_processor_and_the_precision() -> None:
    figures = common.machine("bfloat16")
    assert figures["precision"] == "bfloat16 autocast over float32 weights"
    assert common.machine("float32")["precision"] == "float32"
    assert processor_name() in figures["processor"]


def test_other_token_ids_are_an_error_that_names_the_row() -> None:
    rows = [digest([1, 2], [3], [4]), digest([1, 2], [5], [6])]
    require_same_tokens(rows, list(rows))
    with pytest.raises(ValueError, match="row 1: the two sides read different token ids"):
        require_same_tokens(rows, [rows[0], digest([1, 2], [5], [7])])
    with pytest.raises(ValueError, match="the peer has 2 rows, seralign 1"):
        require_same_tokens(rows, rows[:1])
    assert digest([1, 2], [3]) != digest([1], [2, 3]), "the border of prompt and response counts"


def test_steps_are_timed_by_the_optimizer_itself() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with step_ends() as ends:
        for _ in range(3):
            weight.grad = torch.ones(2)
            optimizer.step()
    optimizer.step()  # after the block: not counted
    assert len(ends) == 3
    assert ends == sorted(ends)
    found = trained([0.7, 0.6, 0.5], 10.0, [11.0, 12.5, 14.0], 3)
    assert (found.seconds, found.whole_seconds) == (3.0, 4.0)
    with pytest.raises(RuntimeError, match="3 steps were asked for; 2 ended"):
        trained([0.7, 0.6, 0.5], 10.0, [11.0, 12.5], 3)


def test_a_worker_answers_with_its_own_threads_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    ballast = bytearray(b"1" * (400 * 2**20))
    assert peak_memory_mb() > 700
    actions = {"add": operator.add, "divide": operator.truediv, "threads": torch.get_num_threads}
    with Worker(dict, actions, threads=1) as worker:
        assert worker.ask("add", 5, 2) == 7
        assert worker.ask("threads") == 1
        assert 50 < worker.peak_mb < 600, "the parent's memory is not the worker's"
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            worker.ask("divide", 1, 0)
    del ballast


def test_rows_are_taken_evenly_from_the_order_of_length() -> None:
    items = [{"tokens": (7 * number) % 12} for number in range(12)]
    assert [item["tokens"] for item in inputs.evenly(items, 3)] == [2, 6, 10]
    with pytest.raises(SystemExit, match="13 are wanted, the data have 12"):
        inputs.evenly(items, 13)


@pytest.fixture(scope="module")
def data() -> tuple[list[inputs.Row], Any]:
    """All rows of some prompts, and a small tokenizer trained on them."""
    if not PAIRS.is_file():
        pytest.skip(f"the data are absent: {PAIRS}")
    raw = inputs.read_pairs(PAIRS)
    prompts = {row["prompt_id"] for row in raw[:50]}
    raw = [row for row in raw if row["prompt_id"] in prompts]
    return raw, models.make_tokenizer(inputs.texts(raw), vocabulary=2000)


def whole(tokenizer: Any, row: inputs.Row, answer: list[inputs.Message]) -> tuple[list[int], list[int]]:
    def ids(messages: list[inputs.Message], **options: Any) -> list[int]:
        return tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"]

    prompt = ids(row["prompt"], add_generation_prompt=True)
    both = ids(row["prompt"] + answer)
    assert both[: len(prompt)] == prompt
    return prompt, both[len(prompt) :]


def test_pairs_fit_the_window_and_their_lengths_are_known(data: tuple[list[inputs.Row], Any]) -> None:
    raw, tokenizer = data
    rows = inputs.alpaca_pairs(raw, tokenizer, 40)
    assert rows == inputs.alpaca_pairs(raw, tokenizer, 40)
    for row in rows:
        sizes = [sum(map(len, whole(tokenizer, row, row[name]))) for name in ("chosen", "rejected")]
        assert max(sizes) <= models.WINDOW
        assert sum(sizes) == row["tokens"]


def test_a_chatml_model_is_copied_in_float32_with_nothing_after_the_end_token(tmp_path: Path) -> None:
    texts = ["user assistant hello there, and how are you", "well enough"]
    tokenizer = models.make_tokenizer(texts, vocabulary=300)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})  # pyright: ignore
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    source = tiny.make_model("llama", vocab_size=len(tokenizer)).bfloat16()
    source.save_pretrained(tmp_path / "given")
    tokenizer.save_pretrained(tmp_path / "given")

    copied, parameters = models.copy_chatml_model(tmp_path / "given", tmp_path / "copy")
    assert parameters == source.num_parameters()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "copy", dtype="auto")
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded.get_input_embeddings().weight, source.get_input_embeddings().weight.float())
    row = {"prompt": [{"role": "user", "content": "how are you"}]}
    prompt, answer = whole(copied, row, [{"role": "assistant", "content": "well enough"}])
    assert copied.decode(prompt) == "<|im_start|>user\nhow are you<|im_end|>\n<|im_start|>assistant\n"
    assert copied.decode(answer) == "well enough<|im_end|>"

    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path / "given")
    with pytest.raises(SystemExit, match="not ChatML"):
        models.copy_chatml_model(tmp_path / "given", tmp_path / "again")


def test_pairs_of_a_prompt_stay_together(data: tuple[list[inputs.Row], Any]) -> None:
    raw, tokenizer = data
    rows = inputs.alpaca_prompts(raw, tokenizer, 5)
    prompts = [row["prompt"][0]["content"] for row in rows]
    blocks = [prompt for at, prompt in enumerate(prompts) if at == 0 or prompts[at - 1] != prompt]
    assert len(blocks) == 5 == len(set(prompts))
    assert len(rows) > 15


def test_long_prompts_have_the_lengths_they_should(data: tuple[list[inputs.Row], Any]) -> None:
    raw, tokenizer = data
    for row in inputs.long_prompts(raw, tokenizer, 10):
        assert [message["role"] for message in row["prompt"]] == ["user", "assistant"] * 3 + ["user"]
        for name in ("chosen", "rejected"):
            prompt, response = whole(tokenizer, row, row[name])
            assert (len(prompt), len(response)) == (400, 80)
            assert response[-1] == tokenizer.eos_token_id


def test_candidates_are_eight_different_ones_within_their_limit(data: tuple[list[inputs.Row], Any]) -> None:
    raw, tokenizer = data
    for row in inputs.candidate_groups(raw, tokenizer, 6):
        assert len(set(row["candidates"])) == 8
        answers = [[{"role": "assistant", "content": text}] for text in row["candidates"]]
        found = [whole(tokenizer, row, answer) for answer in answers]
        assert {len(prompt) for prompt, _ in found} == {400}
        assert 40 < max(len(response) for _, response in found) <= 80
        assert sum(len(prompt) + len(response) for prompt, response in found) == row["tokens"]


def test_a_plain_round_keeps_the_largest_margins() -> None:
    assert top([0.1, 0.9, 0.5, 0.7], 0.5) == [1, 3]
    assert top([3.0, 1.0, 2.0], 0.5) == [0, 2], "1.5 of three are two"
    assert top([], 0.6) == []


def test_a_plain_round_pairs_different_finished_responses_alone() -> None:
    candidates = [
        [[5, 3], [6, 3], [7, 8], [3]],  # the third has no end, the fourth nothing before it
        [[5, 3], [5, 3]],  # the same twice
        [[5, 3], [6, 3]],  # equal rewards
        [[5, 3], [6, 3], [7, 3]],
    ]
    rewards = [1.0, 2.0, 9.0, -9.0, 1.0, 2.0, 4.0, 4.0, -1.0, 0.5, 0.0]
    assert best_and_worst(candidates, rewards, end=3) == [(0, 1, 0, 1.0), (3, 1, 0, 1.5)]


def test_the_peers_choice_is_compared_by_its_own_rewards() -> None:
    prompts, usable = ["a", "a", "a", "b", "b"], [True, True, False, True, True]
    rewards = [1.0, 3.0, 9.0, 0.0, 0.25]
    assert choice_gap(prompts, usable, rewards, {"a": (1, 0), "b": (4, 3)}) == 0.0
    assert choice_gap(prompts, usable, rewards, {"a": (1, 0), "b": (3, 4)}) == 0.25
    assert choice_gap(prompts, usable, rewards, {}) == math.inf


def test_a_bias_gives_the_probability_that_is_asked_for() -> None:
    """Log-odds 0 and slope 2: sigmoid(2 * bias) = 1/5 at bias = ln(1/4) / 2; two unlike tokens by their mean."""
    one = torch.ones(1, dtype=torch.float64)
    assert bias(0 * one, 2 * one, 0.2) == pytest.approx(math.log(0.25) / 2)
    odds, slope = torch.tensor([-9.0, -8.0]).double(), torch.tensor([1.0, 1.5]).double()
    found = bias(odds, slope, 1 / 60)
    assert float((odds + found * slope).sigmoid().mean()) == pytest.approx(1 / 60)


def test_responses_of_the_rounds_model_end(data: tuple[list[inputs.Row], Any], tmp_path: Path) -> None:
    """One response in thirty ends after each token, whatever came before, and the rest stays about even."""
    prompts = [[*range(100 + 9 * start, 160 + 9 * start), 1, 3] for start in range(3)]
    parameters = save_ending_model(tmp_path, data[1], prompts, 30)
    assert parameters == 16384 * 384 + 6 * (4 * 384**2 + 3 * 384 * 1024 + 2 * 384) + 384
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    response = torch.arange(5000, 5050)
    odds = torch.cat([end_odds(model, torch.tensor(prompt), response, 1)[0] for prompt in prompts])
    assert float(odds.sigmoid().mean()) == pytest.approx(1 / 30, rel=0.3)
    assert float(odds.std()) < 0.5


@pytest.mark.parametrize(("pairs", "steps"), [(8, 1), (32, 4)])
def test_a_round_trains_one_epoch_from_the_policies_of_its_run(pairs: int, steps: int) -> None:
    job = RoundJob(Path("there"), pairs=pairs, prompts=4, precision="float32")
    assert job.steps == steps
    assert job.policy("reference") == Path("there/model")
    assert job.policy("before") == Path("there/run/round-1/train/policy")


PEER_ROUND: dict[str, Any] = {"logps": [-10.0, -20.0, -11.0, -18.0], "margins": [2.0, 1.0], "kept": ["p"]}
ROUND_OURS: dict[str, Any] = {
    "pair_ids": ["p", "q"],
    "logps": [-10.0, -20.0, -11.0, -18.0],
    "margins": [2.0, 1.0],
    "ensembled": [2.0, 1.0],
    "kept": ["p"],
    "candidates": [([1], [5, 3]), ([1], [6, 3])],
    "prompt_of": ["a", "a"],
    "usable": [True, True],
    "choices": {"a": (1, 0)},
    "training": [{"chosen_ids": [4] * 400, "rejected_ids": [5] * 400}],
    "losses": [0.6, 0.5, 0.4, 0.3],
}


@pytest.mark.parametrize(
    ("changed", "rewards", "losses", "ends", "failed"),
    [
        ({}, [1.0, 3.0], [0.6, 0.5, 0.4], "dd", []),
        ({"logps": [-10.0, -20.0, -11.0, -18.01]}, [1.0, 3.0], [0.6, 0.5, 0.4], "dd", [0]),
        ({"margins": [2.0, 1.01]}, [1.0, 3.0], [0.6, 0.5, 0.4], "dd", [1]),
        ({"kept": ["q"]}, [1.0, 3.0], [0.6, 0.5, 0.4], "dd", [2]),
        ({}, [3.0, 1.0], [0.6, 0.5, 0.4], "dd", [3]),
        ({}, [1.0, 3.0], [0.6, 0.5, 0.41], "dd", [4]),
        ({}, [1.0, 3.0], [LN2, 0.69, 0.7], "dd", [4, 5]),
        ({}, [1.0, 3.0], [0.6, 0.5, 0.4], "de", [6]),
    ],
)
def test_rounds_are_equal_only_if_each_part_is(
    changed: dict[str, Any], rewards: list[float], losses: list[float], ends: str, failed: list[int]
) -> None:
    """Of 800 response tokens a pair, so that losses may differ by 2 / 256."""
    found = ([Round(1.0, {}, {}, PEER_ROUND | changed)], [Round(1.0, {}, {}, {"policy": end}) for end in ends])
    checks = round_checks(ROUND_OURS, found, rewards, losses)
    assert [at for at, check in enumerate(checks) if not check.passed] == failed


def test_the_work_of_a_pair_counts_prompts_once_and_the_output_layer_for_responses() -> None:
    """Prompt of 5, responses of 12 and 8: 30 tokens in two sequences, 25 in a packed row. 100 body weights, 40 of the
    output layer: 100 * 25 + 40 * 20 = 3300 products of a weight and a token."""
    shape = models.LlamaShape(layers=1, width=4, inner=8, heads=1, key_heads=1, vocabulary=10)
    assert train_gpu.work(shape, 140, 30, 20, 6) == train_gpu.Work(30, 6 * 3300)
    assert train_gpu.work(shape, 140, 30, 20, 2).flop == 2 * 3300


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("processor", None),
    ],
)
def test_the_peak_rate_is_that_of_the_gpu_that_is_named(name: str, teraflops: float | None) -> None:
    assert train_gpu.peak_flops(name) == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_the_row_of_a_gpu_has_tokens_mfu_and_memory_of_both_sides() -> None:
    """2 and 5 pairs a second of 1,000 tokens and 1e13 FLOP each, at a peak of 1e14."""
    peer, ours = [Repetition(10, 5.0)], [Repetition(10, 2.0)]
    figures = comparison(peer, ours, (20000.0, 10000.0), [Check("losses", 0.1, 0.2)])
    pair = train_gpu.Work(1000, 1e13)
    known = figures | {"summary": train_gpu.summary(figures, pair, 1e14)}
    assert train_gpu.row("H200", "training", known) == (
        "| H200 | training | 2,000, 5,000 | 2.5 | 20.0%, 50.0% | 21.0, 10.5 | yes |"
    )
    unknown = figures | {"equal": False, "summary": train_gpu.summary(figures, pair, None)}
    assert train_gpu.row("CPU", "scoring", unknown) == (
        "| CPU | scoring | 2,000, 5,000 | 2.5 | unknown | 21.0, 10.5 | no |"
    )


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_benchmark_of_a_gpu_runs_on_a_processor(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.train_gpu", "--smoke", "--repetitions", "1", "--threads", "1"]
    ran = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, timeout=880)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["smoke"] is True
    assert ran.stdout.splitlines()[-2:] == found["rows"]
    assert found["scoring"]["equal"] is True
    first, *_ = found["training"]["checks"]
    assert first["passed"] is True  # the losses agree; the other check wants a loss that moves
    for part in ("training", "scoring"):
        sizes, rates = found[part]["sizes"], found[part]["summary"]["tokens_a_second"]
        pairs = sizes["pairs"]
        tokens = sizes["tokens"] if part == "scoring" else pairs * sizes["tokens_per_pair"]
        assert pairs == 16
        assert rates["ours"] == pytest.approx(found[part]["ours"]["rate_median"] * tokens / pairs, abs=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_of_a_gpu_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train_gpu"])
    with pytest.raises(SystemExit, match="needs a GPU that PyTorch can use; --smoke tries it on a processor"):
        train_gpu.main()


def test_the_benchmark_of_labelling_labels_what_it_made(tmp_path: Path) -> None:
    found = label_benchmark.measure(20, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "raw.jsonl").read_text(encoding="utf-8").splitlines()]
    shares = [[label_benchmark.different_words("", response, {}) for response in row["responses"]] for row in rows]
    assert found["pairs"] == sum(first != second for first, second in shares)
    assert found["rows"] == len(rows) == 20
    assert found["peak_memory_mb"] > 10


def test_the_memory_of_runs_is_a_line_each_over_the_stages() -> None:
    """From 0 at y 230 to the largest tick, 450 MB, at y 50: 300 MB are at 110, 400 at 70, and 225 at 140."""
    runs = [
        {"pairs": 2000, "stages": {"data": {"anonymous_mb": 300.0}, "round-1/train": {"anonymous_mb": 400.0}}},
        {"pairs": 100_000, "stages": {"data": {"anonymous_mb": 225.0}, "round-1/train": {"anonymous_mb": 400.0}}},
    ]
    svg = stages_svg(runs)
    lines = re.findall(r'polyline points="(.*?)"', svg)
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert heights == [[110.0, 70.0], [140.0, 70.0]]
    assert all(name in svg for name in ("2,000 pairs", "100,000 pairs", "round-1/train"))


def test_a_profiled_step_of_training_counts_its_useful_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 operations a weight and token, the output layer for response tokens alone; shares are of the whole step."""
    monkeypatch.setattr(growth_profile, "_RATE_SECONDS", 0.01)
    growth_parts.llama(vocab_size=500, tie_word_embeddings=True).save_pretrained(tmp_path)
    found = growth_parts.training_step(tmp_path, 300, "bfloat16")
    body, head = 2 * (4 * 64**2 + 3 * 64 * 176) + 5 * 64, 500 * 64
    assert found["tokens"] > found["response_tokens"] > 0
    assert (found["body_parameters"], found["head_parameters"]) == (body, head)
    gflop = 6 * (body * found["tokens"] + head * found["response_tokens"]) / 1e9
    assert found["step_gflop"] == pytest.approx(gflop)
    assert sum(found["shares"].values()) == pytest.approx(1.0)
    assert found["shares"][growth_profile.PRODUCTS] > 0

"""One SeRA round, all stages: a script of TRL, ``generate`` and plain forward passes, and seralign.

    python -m benchmarks.round --json FILE [--pairs FILE] [--threads N]

The round scores the offline pairs, keeps the 70% with the largest ensembled margin, samples four responses a prompt at
temperature 1, makes pairs of the best and the worst by ensembled implicit reward, keeps 60% of them, mixes them in at
a share of 0.3, and trains DPO from the last policy against the first one. It is the third round, the first one that
has all there is: a policy, one before it, and the reference.

The data are the dialogues of ``train_long_prompt``: prompts of 400 tokens in four turns, responses of 80. Half as many
of the prompts are sampled from as there are pairs. The model is the other benchmarks' Llama of 17 million parameters,
with float32 weights, sampling and scoring (bfloat16 can reorder margins), and training in the faster precision of the
machine, or in ``--precision``. Both sides have the same ones.

Unfinished responses make no pair, those of a random model never end, and no trained model is at hand. So the model's
weights are made such that the end token has a probability of about 1/60 after every token (``round_model.py``): its
responses are random words that end after some 60 tokens, or are cut at 128. seralign trains two rounds from
it before anything is timed.

Both sides start from the same policies, pairs and prompts, and with what the rounds before left: seralign with its
cache of log-probabilities, the peer with the last round's margins of the pairs and the reference's part in them.
seralign is timed as a run that is taken up before its third round, start, checks of the stored files, report and result
included. It evaluates nothing on held-out data, as the script does not. The peer has read and tokenized everything; its
batch sizes, and the kind of cache that ``generate`` keeps, are the fastest of a few. It computes no logits before the
first response; the reference's log-probabilities for training are computed in advance, by TRL itself, for all pairs.

Each samples its own responses, so that the generated pairs differ; their numbers are in the figures, and nothing is
normalised. ``equal``: log-probabilities and margins of all offline pairs agree, so do the kept pairs; the peer picks
the same best and worst of seralign's candidates; on seralign's training set the losses of TRL's first steps are
seralign's, by how far rounding to bfloat16 may take them; and all rounds of seralign ended with the same weights.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from benchmarks import inputs
from benchmarks.common import Check, Options, Repetition, alternate, comparison, largest_difference, run
from benchmarks.jobs import STEP_PAIRS
from benchmarks.models import make_tokenizer
from benchmarks.round_job import CHECKED_STEPS, Round, RoundJob
from benchmarks.round_model import save_ending_model
from benchmarks.training import loss_checks
from benchmarks.workers import Worker

# Tokens of a response on average, and prompts that the model's bias is set by.
_LENGTH, _PROMPTS = 60, 8
# float32: what two orders of summation differ by in the log-probability of a response, relative to its size.
_ROUNDING = 1e-5


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts offline pairs; there are half as many prompts."""
    from benchmarks import round_ours, round_peer

    job = round_job(options, scratch)
    raw = inputs.read_pairs(options.pairs)
    tokenizer = make_tokenizer(inputs.texts(raw))
    rows = write_round_rows(raw, tokenizer, job)
    prompts = [_prompt_ids(row, tokenizer) for row in rows[:_PROMPTS]]
    parameters = save_ending_model(scratch / "model", tokenizer, prompts, _LENGTH)
    figures = measure_round(job, options, (round_peer.side, round_ours.side, round_ours.preparation))
    return figures | {"sizes": round_sizes(job, parameters)}


def round_job(options: Options, scratch: Path) -> RoundJob:
    """The round of ``options.size`` offline pairs and half as many prompts."""
    if options.size % STEP_PAIRS:
        raise SystemExit(f"--size: a multiple of {STEP_PAIRS}")
    return RoundJob(scratch, pairs=options.size, prompts=options.size // 2, precision=options.precision)


def write_round_rows(raw: Sequence[inputs.Row], tokenizer: PreTrainedTokenizerFast, job: RoundJob) -> list[inputs.Row]:
    """Write and return the offline pairs, and write the prompts that are sampled from."""
    rows = inputs.long_prompts(raw, tokenizer, job.pairs)
    inputs.write_rows(job.folder / "rows.jsonl", rows)
    inputs.write_rows(job.folder / "asked.jsonl", [{"prompt": row["prompt"]} for row in rows[: job.prompts]])
    return rows


def round_sizes(job: RoundJob, parameters: int) -> dict[str, float]:
    """The sizes of the work, for the figures."""
    numbers = {key: value for key, value in asdict(job).items() if isinstance(value, (int, float))}
    return {"parameters": parameters, "prompt_tokens": inputs.PROMPT_TOKENS, "steps": job.steps} | numbers


def measure_round(job: RoundJob, options: Options, makes: tuple[Any, Any, Any]) -> dict[str, Any]:
    """The base run, a round of seralign that is not counted, the peer on what that computed, and the counted rounds."""
    make_peer, make_ours, make_base = makes
    with Worker(make_base, job, options.threads) as base:  # not the one that is measured: its peak counts
        base.ask("prepare")
    with Worker(make_peer, job, options.threads) as tuner:
        batches, trials = tuner.ask("trial")
    found: tuple[list[Round], list[Round]] = ([], [])
    with Worker(make_peer, job, options.threads) as peer, Worker(make_ours, job, options.threads) as mine:

        def turn(side: int) -> Repetition:
            asked = (peer.ask, mine.ask)[side]
            result: Round = asked("round", batches, len(found[side]))
            found[side].append(result)
            return Repetition(job.pairs, result.seconds)

        turn(1)
        given = mine.ask("results")
        rewards = peer.ask("rewards", given["candidates"], batches.score)
        losses = peer.ask("losses", given["training"], min(CHECKED_STEPS, job.steps), batches)
        peer.ask("answer", batches)
        turns = alternate(lambda: turn(0), lambda: turn(1), options.repetitions)
        peaks = (peer.peak_mb, mine.peak_mb)
    checks = round_checks(given, found, rewards, losses)
    return comparison(*turns, peaks, checks) | {
        "unit": "offline pairs a second, of a whole round",
        "seconds_by_stage": {
            name: _stages(rounds[-options.repetitions :]) for name, rounds in zip(("peer", "ours"), found, strict=True)
        },
        "outcome": {name: rounds[-1].figures for name, rounds in zip(("peer", "ours"), found, strict=True)},
        "peer_settings": {"batches": asdict(batches), "seconds_tried": trials},
    }


def round_checks(
    given: dict[str, Any], found: tuple[list[Round], list[Round]], rewards: list[float], losses: list[float]
) -> list[Check]:
    """What both sides computed on the same inputs.

    Args:
        given: What seralign computed in a round.
        found: All rounds of the peer and of seralign.
        rewards: The peer's, of seralign's candidates.
        losses: The peer's, of the first steps on seralign's training set.
    """
    scored = found[0][-1].computed
    logps, ours = given["logps"], given["ensembled"]
    tolerance = 4 * _ROUNDING * max(map(abs, logps))
    ids = given["pair_ids"]
    apart = set(scored["kept"]) ^ set(given["kept"])
    edge = min(value for name, value in zip(ids, ours, strict=True) if name in set(given["kept"]))
    tokens = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in given["training"]]
    ends = {one.computed["policy"] for one in found[1]}
    return [
        Check(
            "log-probabilities of the offline pairs, relative",
            largest_difference(scored["logps"], logps, [max(1.0, abs(value)) for value in logps]),
            _ROUNDING,
        ),
        Check("margins of the offline pairs", largest_difference(scored["margins"], given["margins"]), tolerance),
        Check(
            "kept pairs: distance from the edge of those that one side alone keeps",
            max((abs(value - edge) for name, value in zip(ids, ours, strict=True) if name in apart), default=0.0),
            tolerance,
        ),
        Check(
            "best and worst candidates: the peer's reward of its own choice above that of seralign's",
            choice_gap(given["prompt_of"], given["usable"], rewards, given["choices"]),
            tolerance,
        ),
        *loss_checks([losses], [given["losses"][: len(losses)]], statistics.mean(tokens)),
        Check("different weights that seralign's rounds ended with, beside the first ones", len(ends) - 1.0, 0.0),
    ]


def choice_gap(
    prompt_of: Sequence[str], usable: Sequence[bool], rewards: Sequence[float], choices: dict[str, tuple[int, int]]
) -> float:
    """How much better than the chosen best, or worse than the chosen worst, another usable candidate is at most.

    0 where the same ones are picked; not finite where nothing was picked.
    """
    gaps = [math.inf] if not choices else []
    for prompt, (best, worst) in choices.items():
        own = [value for name, fit, value in zip(prompt_of, usable, rewards, strict=True) if fit and name == prompt]
        gaps += [max(own) - rewards[best], rewards[worst] - min(own)]
    return max(gaps)


def _prompt_ids(row: inputs.Row, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    given: Any = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)
    return given["input_ids"]


def _stages(rounds: Sequence[Round]) -> dict[str, float]:
    """Median seconds of each stage."""
    return {name: round(statistics.median(one.stages[name] for one in rounds), 3) for name in rounds[0].stages}


if __name__ == "__main__":
    run("round", __doc__, 32, measure)

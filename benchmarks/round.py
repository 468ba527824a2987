"""One SeRA round, all stages: a script of TRL, ``generate`` and plain forward passes, and seralign.

    python -m benchmarks.round --json FILE [--pairs FILE] [--threads N]

The round scores the offline pairs, keeps the 70% with the largest ensembled margin, samples four responses a prompt at
temperature 1, makes pairs of the best and the worst by ensembled implicit reward, keeps 60% of them, mixes them in at
a share of 0.3, and trains DPO in float32 from the last policy against the supervised one. It is the third round, the
first one that has all there is: a policy, one before it, and the reference.

Responses have to end or no pair comes of them, which those of a random model never do, and no trained model is at
hand. So the round runs on the built-in clause world, with the other benchmarks' Llama of 17 million parameters that
seralign has trained before anything is timed: a supervised policy and two rounds. The world has 28 tokens, the model a
vocabulary of 16,384: its output layer costs what a real one does. Pairs without a policy that can answer their prompts
are of no use here: ``--pairs`` is accepted, the file has to exist, and is not read.

Both sides start from the same policies, pairs and prompts, and with the last round's margins of the pairs. seralign is
timed as a run that is taken up before its third round, start, checks of the stored files and result included; its cache
of log-probabilities is empty. The peer has read and tokenized everything; its batch sizes are the fastest of a few.
Each samples its own responses, so that the generated pairs differ; their numbers are in the figures, and nothing is
normalised. ``equal``: log-probabilities and margins of all offline pairs agree, so do the kept pairs; the peer picks
the same best and worst of seralign's candidates; and on seralign's training set the losses of TRL's first steps are
seralign's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import Check, Options, Repetition, alternate, comparison, largest_difference, run
from benchmarks.round_job import CHECKED_STEPS, Batches, Round, RoundJob
from benchmarks.workers import Worker

STEP_PAIRS = 32
# float32: what two orders of summation differ by in the log-probability of a response, relative to its size.
_ROUNDING = 1e-5


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts offline pairs; there are half as many prompts."""
    from benchmarks import round_ours, round_peer

    if options.size % STEP_PAIRS:
        raise SystemExit(f"--size: a multiple of {STEP_PAIRS}")
    job = RoundJob(
        scratch,
        pairs=options.size,
        prompts=options.size // 2,
        samples=4,
        steps=options.size // STEP_PAIRS,
        step_pairs=STEP_PAIRS,
        width=384,
        layers=6,
        vocabulary=16384,
        supervised_steps=40,
    )
    return measure_round(job, options, (round_peer.side, round_ours.side, round_ours.preparation))


def measure_round(job: RoundJob, options: Options, makes: tuple[Any, Any, Any]) -> dict[str, Any]:
    """The base run, a round of each side that is not counted, the checks, and the rounds that are."""
    make_peer, make_ours, make_base = makes
    with Worker(make_base, job, options.threads) as base:  # not the one that is measured: its peak counts
        parameters = base.ask("prepare")
    found: tuple[list[Round], list[Round]] = ([], [])
    with Worker(make_peer, job, options.threads) as tuner:
        batches, trials = tuner.ask("trial")
    with Worker(make_peer, job, options.threads) as peer, Worker(make_ours, job, options.threads) as mine:

        def turn(side: int) -> Repetition:
            asked = (peer.ask, mine.ask)[side]
            result: Round = asked("round", batches, len(found[side]))
            found[side].append(result)
            return Repetition(job.pairs, result.seconds)

        for warm_up in (0, 1):
            turn(warm_up)
        turns = alternate(lambda: turn(0), lambda: turn(1), options.repetitions)
        peaks = (peer.peak_mb, mine.peak_mb)
        given = mine.ask("results")
        checks = round_checks(given, found[0][-1], peer, batches)
    return comparison(*turns, peaks, checks) | {
        "unit": "offline pairs a second, of a whole round",
        "seconds_by_stage": {name: _stages(rounds[1:]) for name, rounds in zip(("peer", "ours"), found, strict=True)},
        "outcome": {
            name: {key: value for key, value in rounds[-1].figures.items() if key != "kept"}
            for name, rounds in zip(("peer", "ours"), found, strict=True)
        },
        "peer_settings": {"batches": asdict(batches), "seconds_tried": trials},
        "sizes": {"parameters": parameters}
        | {key: value for key, value in asdict(job).items() if isinstance(value, (int, float))},
    }


def round_checks(given: dict[str, Any], last: Round, peer: Worker, batches: Batches) -> list[Check]:
    """What both sides computed on the same inputs; ``given`` is what seralign computed."""
    scored = peer.ask("margins")
    logps, ours = given["logps"], given["ensembled"]
    tolerance = 4 * _ROUNDING * max(map(abs, logps))
    ids = given["pair_ids"]
    apart = set(last.figures["kept"]) ^ set(given["kept"])
    edge = min(value for name, value in zip(ids, ours, strict=True) if name in set(given["kept"]))
    rewards = peer.ask("rewards", given["candidates"])
    steps = min(CHECKED_STEPS, len(given["losses"]))
    losses = peer.ask("losses", given["training"], steps, batches.train)
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
        Check(
            f"losses of the first {steps} steps",
            largest_difference(losses, given["losses"][:steps]),
            1e-4,
        ),
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


def _stages(rounds: Sequence[Round]) -> dict[str, float]:
    """Median seconds of each stage."""
    return {name: round(statistics.median(one.stages[name] for one in rounds), 3) for name in rounds[0].stages}


if __name__ == "__main__":
    run("round", __doc__, 256, measure)

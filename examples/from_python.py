"""A run from Python with a custom scorer, on the built-in world: a shorter answer gets a higher score.

    python examples/from_python.py [FOLDER]

Any function of prompts and responses can be a scorer. It is used for evaluation only, never for training. The policy
learns from the pairs, whose labeller prefers long answers, so expect it to get worse by this scorer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import seralign


def shorter(prompts: list[str], responses: list[str]) -> list[float]:
    """The score of each response: minus the number of words."""
    return [-float(len(response.split())) for response in responses]


def main(folder: Path) -> None:
    """Train two short rounds, and print the metrics of each policy."""
    training = {"learning_rate": 3e-3, "max_steps": 30, "batch_size": 32}
    config = seralign.load_config(
        overrides={
            "out": str(folder),
            "rounds": 2,
            "world": {"pairs": 400, "demonstrations": 1000, "prompts": 100, "heldout": 100},
            "data.max_length": 48,
            "sft": training,
            "objective.name": "dpo",
            "training": training | {"learning_rate": 3e-4},
            "bootstrap": {"samples": 4, "temperature": 1.0, "max_new_tokens": 26, "batch_size": 100},
            "evaluation": {"prompts": 100, "batch_size": 100},
            "stop.metric": "never",
        }
    )
    result = seralign.train(config, scorer=shorter)

    print(f"{'policy':10} {'score':>8} {'wins':>6} {'words':>6} {'kl':>6}")
    for policy in seralign.run_figures(result.run).policies:
        figures = policy.figures
        wins = figures.win_rates["sft"].mean if "sft" in figures.win_rates else float("nan")
        print(
            f"{policy.name:10} {figures.score.mean:8.2f} {wins:6.2f} {-figures.score.mean:6.1f} {figures.kl.mean:6.2f}"
        )
    print(f"the result: {result.policy}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/from_python"))

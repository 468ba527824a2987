"""Write the prompts of the study on real text: two tasks on the topics of the SmolLM2 example.

    python -m examples.real_text.prompts [FOLDER]

``tone.jsonl`` asks for one sentence, and every positive word is welcome; ``format.jsonl`` has the instructions of the
example that are trained on. A prompt is a conversation of one turn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from examples.smollm2.prompts import Message, tasks
from examples.smollm2.topics import TOPICS

# One sentence keeps answers short enough for a CPU, and the tone free.
TONES = (
    "{} Answer in one short sentence.",
    "{} Give one sentence of advice.",
    "{} Say in one sentence how you feel about it.",
    "{} Tell me one thing about it in a single sentence.",
    "{} Warn me of one thing in a single sentence.",
    "{} Say in one sentence what goes wrong most often.",
)


def tone_prompts() -> list[list[Message]]:
    """Each topic with each wish: half of the wishes invite a negative answer or a neutral one."""
    return [[{"role": "user", "content": tone.format(question)}] for question, _ in TOPICS for tone in TONES]


def format_prompts() -> list[list[Message]]:
    """Each topic but the last with each instruction about the format that is trained on."""
    return [task.messages for task in tasks(len(TOPICS) - 1, 1)[0]]


def main(arguments: list[str] | None = None) -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/real_text"))
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "tone.jsonl", tone_prompts())
    _write(folder / "format.jsonl", format_prompts())


def _write(path: Path, prompts: Iterable[list[Message]]) -> None:
    path.write_text("".join(json.dumps({"prompt": messages}) + "\n" for messages in prompts), encoding="utf-8")


if __name__ == "__main__":
    main()

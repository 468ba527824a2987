"""``seralign sample``: answer a file of prompts, as lines of JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from seralign.checks import positive
from seralign.cli.policies import PLACES, add_sampling, add_which, sampling, which_policy
from seralign.config.flags import Parser
from seralign.errors import ConfigError, StoreError


def main(arguments: list[str]) -> None:
    """``RUN (--prompts FILE | --prompt TEXT) [--out FILE.jsonl] [--round N] [--samples R] [--key value ...]``"""
    parser = Parser(
        "seralign sample",
        description="Sample answers to the prompts of a file. The output has one line of JSON per row: the prompt as "
        "text or messages, as the model reads it (rendered), and the responses, each with whether it finished. The "
        "same seed gives the same answers. With --out, give the same command again to resume a killed sampling.",
    )
    parser.add_argument("policy", metavar="RUN", help=PLACES)
    add_which(parser)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompts", metavar="FILE", help="a file of rows like data.prompts (docs/data.md)")
    asked.add_argument("--prompt", metavar="TEXT", help="one prompt, in place of a file")
    parser.add_argument("--limit", type=int, metavar="N", help="read only the first rows of the file")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="output file (default: standard output)")
    parser.add_argument("--samples", type=int, default=1, metavar="R", help="answers per prompt")
    parser.add_argument(
        "--batch_size", type=int, help="prompts sampled together (default: that of the run's evaluation)"
    )
    add_sampling(parser)
    given = parser.parse_args(arguments)
    if given.out is not None and given.out.exists():
        raise StoreError(f"{given.out} already exists; delete it, or give another name (--out)")
    if given.limit is not None and given.prompts is None:
        raise ConfigError("--limit needs --prompts")

    from seralign.runs.files import disk_errors, partial_folder

    if given.out is None:
        with tempfile.TemporaryDirectory() as scratch:
            _sample(given, Path(scratch))
        return
    part = given.out.with_name(given.out.name + ".partial")
    with disk_errors(given.out.parent), partial_folder(part, "seralign sample"):
        _sample(given, part)
        shutil.rmtree(part)


def _sample(given: argparse.Namespace, folder: Path) -> None:
    from seralign.config import SourceConfig
    from seralign.pipeline.answers import Asked, sample_answers
    from seralign.pipeline.asking import load_reader, make_speaker, read, read_file
    from seralign.pipeline.saved import saved_policy
    from seralign.policy.identity import weights_digest
    from seralign.progress import say
    from seralign.runs.files import write_atomic
    from seralign.sampling import params_of

    policy = saved_policy(given.policy, which_policy(given))
    settings = sampling(given, policy)
    positive(given.samples, "--samples")
    if given.batch_size is not None:
        positive(given.batch_size, "--batch_size")
        settings = replace(settings, batch_size=given.batch_size)
    reader = load_reader(policy, system=given.system, plain=given.plain)
    if given.prompts is None:
        asked = [Asked(given.prompt, read(reader, given.prompt, "--prompt"))]
    else:
        source = SourceConfig(given.prompts, limit=given.limit)
        asked = [Asked(content, prompt) for content, prompt in read_file(reader, source, "--prompts")]
    how = "turns of a conversation" if reader.chat else "plain text to continue"
    say(f"{policy.name}: {len(asked)} prompt{'s' * (len(asked) != 1)}; a prompt that is plain text is read as {how}")
    speaker = make_speaker(policy, reader, settings, "evaluation")
    answered = list(
        sample_answers(
            speaker,
            asked,
            params_of(settings, given.samples),
            policy=weights_digest(policy.source),
            seed=given.seed,
            folder=folder,
        )
    )
    # Only ASCII on standard output, so that the text of a model cannot control the terminal.
    ascii_alone = given.out is None
    text = "".join(json.dumps(one.to_dict(), ensure_ascii=ascii_alone) + "\n" for one in answered)
    if given.out is None:
        print(text, end="")
    else:
        write_atomic(given.out, lambda part: part.write_text(text, encoding="utf-8"))
    if left_out := sum(one.left_out is not None for one in answered):
        say(f"warning: {left_out} of {len(asked)} prompts were not answered; left_out in their lines says why")

"""``seralign sample``: answer a file of prompts, as lines of JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from seralign.checks import positive
from seralign.cli.policies import PLACES, add_sampling, add_which, aligned, sampling, which_policy
from seralign.config.flags import Parser
from seralign.errors import ConfigError, StoreError


def main(arguments: list[str]) -> None:
    """``CONFIG.yaml [--key value ...]``, or
    ``RUN (--prompts FILE | --prompt TEXT) [--out FILE.jsonl] [--round N] [--samples R] [--key value ...]``
    """
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        _sample_by_config(arguments)
        return
    parser = Parser(
        "seralign sample",
        description="Sample answers to the prompts of a file. The output has one line of JSON per row: the prompt as "
        "text or messages, as the model reads it (rendered), and the responses, each with whether it finished. The "
        "same seed gives the same answers. With --out, give the same command again to resume a killed sampling. "
        "seralign sample CONFIG.yaml samples candidates of several models and temperatures (docs/commands.md).",
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
    from seralign.pipeline.answers import sample_answers
    from seralign.pipeline.asking import Asked, load_reader, make_speaker, read, read_file
    from seralign.policy.identity import weights_digest
    from seralign.policy.saved import saved_policy
    from seralign.progress import say
    from seralign.runs.files import write_atomic
    from seralign.sampling import params_of

    policy = saved_policy(given.policy, which_policy(given))
    settings = sampling(given, policy)
    positive(given.samples, "--samples")
    if given.batch_size is not None:
        positive(given.batch_size, "--batch_size")
        settings = replace(settings, batch_size=given.batch_size)
    reader = load_reader(policy, system=given.system, plain=given.plain, aligned=aligned(given))
    if given.prompts is None:
        asked = [Asked(given.prompt, read(reader, given.prompt, "--prompt"))]
    else:
        source = SourceConfig(given.prompts, limit=given.limit)
        asked = list(read_file(reader, source, "--prompts"))
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


def _sample_by_config(arguments: list[str]) -> None:
    """Sample candidates of several models and temperatures."""
    from seralign.config.candidates import load_sample_config
    from seralign.config.paths import expanded
    from seralign.config.sections import parse_overrides

    parser = Parser(
        "seralign sample",
        usage="seralign sample CONFIG.yaml [--key value ...]",
        description="Sample candidates of several models and temperatures, for label and train. Give the same command "
        "again to resume a sampling that was killed.",
        epilog="The keys of the file are flags, such as --samples 8 or --prompts.limit 100.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration (docs/commands.md)")
    given, rest = parser.parse_known_args(arguments)
    config = load_sample_config(given.config, parse_overrides(rest))
    if Path(expanded(config.out)).exists():
        raise StoreError(f"{config.out} already exists; delete it, or give another name (out)")

    from seralign.cli.console import tell
    from seralign.pipeline.candidates import sample_all

    figures = sample_all(config)
    tell(f"{config.out}: {figures.responses:,} responses to {figures.prompts:,} prompts")
    for count, what in (
        (figures.repeated_prompts, "repeated prompts were asked once"),
        (figures.repeated_responses, "repeated responses were dropped (duplicates)"),
        (figures.unfinished, "responses cut at max_new_tokens were dropped (unfinished)"),
        (figures.unanswered, "prompts have no response, and no line: they were too long or empty, or all was dropped"),
    ):
        if count:
            tell(f"  {count:,} {what}")
    where = "responses: responses, text: text" if config.rows == "prompt" else "response: response"
    tell(f"To label them: data: {{path: {config.out}, {where}}}")
